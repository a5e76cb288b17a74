"""What is said of a fault by the incidents that were opened after it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from deploy.chaos.plan import Expected
from deploy.chaos.report import Outcome, page, summary, table
from deploy.chaos.verdict import Seen, concerns, is_over, look, shortcomings

STRUCK = 1_800_000_000.0


def at(seconds: float) -> str:
    return datetime.fromtimestamp(STRUCK + seconds, UTC).isoformat()


def incident(opened: float, *, symptom: str = "silence", cause: str = "process:ingest", state: str = "VERIFIED",
             closed: float = 9.0, actions: tuple[str, ...] = ("restart",)) -> dict[str, Any]:
    return {"symptom": symptom, "cause": cause, "state": state, "opened_at": at(opened), "closed_at": at(closed),
            "timeline": [{"what": "opened"}, *({"what": f"commanded {one}"} for one in actions)]}


KILLED = Expected(symptom=("silence",), cause=("process:ingest",), detected_s=3, healed_s=10)


def test_a_fault_that_was_seen_named_and_healed_in_time_falls_short_of_nothing() -> None:
    seen = look(KILLED, [incident(2.0), incident(-60, symptom="drift")], STRUCK)
    assert seen == Seen(2.0, "process:ingest", True, ("restart",), 9.0, symptoms=frozenset({"silence"}))
    assert shortcomings(KILLED, seen) == []
    assert is_over(KILLED, seen)


def test_what_is_late_or_blames_another_falls_short() -> None:
    seen = look(KILLED, [incident(5.0, cause="process:trainer", closed=30)], STRUCK)
    assert shortcomings(KILLED, seen) == ["detected in 5.0 s, not 3", "process:trainer was blamed, not process:ingest",
                                          "healed in 30.0 s, not 10"]


def test_other_pipelines_and_what_is_to_be_ignored_are_not_looked_at() -> None:
    process = incident(1.0) | {"pipeline": ""}
    hot = incident(1.0, symptom="cpu", cause="resources:cpu/here") | {"pipeline": ""}
    ours, theirs = (incident(1.0, symptom="drift", cause=f"data:{name}") | {"pipeline": name} for name in ("a", "b"))
    assert [concerns(one, "a", ["resources:*"]) for one in (process, hot, ours, theirs)] == [True, False, True, False]
    assert concerns(hot, "a", [])


def test_it_is_waited_for_what_is_still_open() -> None:
    seen = look(KILLED, [incident(1.0), incident(1.5, state="COMMANDED")], STRUCK)
    assert seen.healed_s is None
    assert not is_over(KILLED, seen)
    assert shortcomings(KILLED, seen) == ["it was not healed"]
    told = KILLED.model_copy(update={"healed": False})
    assert is_over(told, seen)
    assert shortcomings(told, seen) == []


def test_a_symptom_that_is_noted_on_an_incident_of_its_cause_is_seen() -> None:
    used_up = Expected(symptom=("leak",), cause=("process:ingest",), detected_s=3, healed_s=10)
    joined = incident(1.0, symptom="files")
    joined["timeline"].append({"what": "also: leak", "at": at(2.0)})
    assert look(used_up, [joined], STRUCK) == Seen(2.0, "process:ingest", True, ("restart",), 9.0,
                                                   symptoms=frozenset({"leak"}))
    both = look(used_up.model_copy(update={"must": ("files",)}), [joined], STRUCK)
    assert both.symptoms == {"leak", "files"}
    before = joined | {"opened_at": at(-60)}
    assert look(used_up, [before], STRUCK).detected_s == 2.0
    assert look(KILLED, [before], STRUCK).others == ("process:ingest (restart)",)


def test_what_was_never_seen_falls_short_and_nothing_may_be_seen_of_a_control() -> None:
    seen = look(KILLED, [incident(2.0, symptom="drift", cause="data:phishing")], STRUCK)
    assert shortcomings(KILLED, seen) == ["it was not detected"]
    assert seen.others == ("data:phishing (restart)",)
    control = look(None, [incident(2.0)], STRUCK)
    assert shortcomings(None, control) == ["nothing was to be seen, and process:ingest (restart) was"]
    # Of what is not to be seen, all of its time is waited for.
    assert not is_over(None, control)


def test_a_symptom_that_must_be_seen_is_waited_for_and_missed() -> None:
    looped = KILLED.model_copy(update={"must": ("crash_loop",), "healed": False})
    silent = look(looped, [incident(2.0, state="ESCALATED")], STRUCK)
    assert not is_over(looped, silent)
    assert shortcomings(looped, silent) == ["crash_loop was not seen"]
    seen = look(looped, [incident(2.0), incident(90.0, symptom="crash_loop", state="ESCALATED")], STRUCK)
    assert is_over(looped, seen)
    assert (shortcomings(looped, seen), seen.others) == ([], ())


def test_a_cause_is_named_by_its_beginning_where_the_plan_says_so() -> None:
    expected = Expected(cause=("data:phishing*",))
    assert look(expected, [incident(1, cause="data:phishing/sensor-9")], STRUCK).right
    assert not look(expected, [incident(1, cause="model:phishing")], STRUCK).right


def test_a_table_has_a_row_for_each_and_a_summary_counts() -> None:
    good = Outcome("it ended", 1, look(KILLED, [incident(2.0)], STRUCK), 8.0, 100, 0, 0, 10, 1, ())
    bad = Outcome("a | b", 1, Seen(), None, 50, 2, 1, 10, 0, ("it was not detected",), of=("a", "b c"))
    told = Outcome("told", 1, look(KILLED, [incident(2.0)], STRUCK), None, 0, 0, 0, 0, 0, (), healable=False)
    calm = Outcome("calm", 1, Seen(), None, 5, 0, 0, 0, 0, (), detectable=False, healable=False)
    rows = table([good, bad]).splitlines()
    assert rows[2] == ("| it ended | 1 | 2.0 s | process:ingest | restart | 9.0 s | 8.0 s | 100 | 0 | 0 | 1 of 10 "
                       "| yes | `--only 'it ended'` |")
    assert "a \\| b" in rows[3] and rows[3].endswith("| `--only a --only 'b c' --together` |")
    assert summary([good, bad, told, calm]) == (
        "4 faults: 2 of 3 detected, 2 of 3 the cause right, 1 of 2 healed and verified; of 1 that nobody need do "
        "anything about 1 as expected; 2 events lost, 1 doubled")
    written = page([good, bad, told, calm], "lepton chaos run mine.yaml", "Once.")
    missed = replace(bad, shortcomings=("it was not struck: it\nis away",), left_out="failed")
    assert summary([good, missed]).startswith("2 faults, 1 of them not struck: 1 of 1 detected, ")
    assert "| not struck | 1 | 0 |" in page([missed], "", "")
    assert "it was not struck: it is away" in table([missed])
    assert page([good], "", "Once.", "it was ended").startswith("Once.\n\n**Not the whole plan: it was ended.**")
    assert "| detected | 2 of 3, 67% | 100% |" in written and "`lepton chaos run mine.yaml` and what" in written
