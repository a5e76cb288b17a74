"""An incident read back: how long it took, its report, its picture; over REST and by the command line."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from lepton.contracts.pb.incidents_pb2 import Incident, IncidentEvent, IncidentState
from lepton.store.incidents import Incidents
from services.gateway.core.incidents import plot, report
from services.gateway.core.incidents.course import Times, actions, times
from tests.unit.gateway.house import open_house
from tests.unit.lepton_ai.files.desk import lepton

T0 = 1_800_000_000.0
RANKED = ("process 83% (silence: no heartbeat for 2.2 s, failures: 3 in 60 s (a; b)); dependency 17% (silence: no "
          "heartbeat for 2.2 s); root process, on which hang gateway")


def stamp(at_s: float) -> Timestamp:
    found = Timestamp()
    found.FromMilliseconds(round((T0 + at_s) * 1000))
    return found


def incident(*steps: tuple[float, str, str], **fields: object) -> Incident:
    told = {"incident_id": "inc-1", "state": IncidentState.INCIDENT_STATE_VERIFIED, "symptom": "silence",
            "cause": "process:predictor-0", "target": "instance:predictor-0", "opened_at": stamp(0),
            "timeline": [IncidentEvent(at=stamp(at_s), what=what, detail=detail) for at_s, what, detail in steps],
            "command_ids": [detail for _, what, detail in steps if what.startswith("commanded ")], **fields}
    return Incident(**told)  # type: ignore[arg-type]


@pytest.fixture
def healed() -> Incident:
    """Silent for 2.2 s when it was opened; the second restart helped."""
    return incident((0, "opened", "no heartbeat for 2.2 s"), (0, "diagnosed", RANKED),
                    (0.25, "commanded restart", "inc-1-1"), (1, "answered done", "started"),
                    (15.25, "commanded restart", "inc-1-2"), (16, "answered done", "started again"),
                    (18.5, "verified", "a new process is ready"), began_at=stamp(-2.2), closed_at=stamp(18.5),
                    decided_at=stamp(15.25), verdict="a new process is ready")


@pytest.fixture
def standing() -> Incident:
    """Nobody knows when it began, nothing was commanded, and it goes on."""
    return incident((0, "opened", "3 rows | of 4 <b>bad</b>"), (30, "escalated", "no command can cure it"),
                    state=IncidentState.INCIDENT_STATE_ESCALATED, verdict="no command can cure it",
                    symptom="unusual_rows", cause="data:shop", target="pipeline:shop", pipeline="shop")


def test_the_report_names_the_other_symptoms_of_its_cause(standing: Incident) -> None:
    assert "too." not in report.written(standing)
    standing.timeline.append(IncidentEvent(at=stamp(40), what="also: drift", detail="drifted: x"))
    assert "The same cause showed as `drift` too." in report.written(standing)


def test_times_are_from_the_first_sign_to_opened_to_the_first_command_to_the_proof(
        healed: Incident, standing: Incident) -> None:
    assert times(healed) == Times(2.2, 0.25, 18.25)
    assert times(standing) == Times(None, None, None)
    assert times(incident((0, "opened", ""), (5, "verified", ""), closed_at=stamp(5))) == Times(None, None, None)
    cut = incident((0, "opened", ""), command_ids=["inc-1-1"], decided_at=stamp(3), closed_at=stamp(9))
    assert times(cut) == Times(None, 3, 6), "its note is gone; the time of the only command is kept beside"
    assert times(incident((0, "opened", ""), command_ids=["a", "b"], decided_at=stamp(3))).decide_s is None


def test_every_action_has_its_answer_and_its_outcome(healed: Incident, standing: Incident) -> None:
    assert [(one.name, one.command_id, one.answered, one.outcome) for one in actions(healed)] == [
        ("restart", "inc-1-1", "done: started", "not proven in time, the next step followed"),
        ("restart", "inc-1-2", "done: started again", "well again: a new process is ready")]
    assert actions(standing) == []


def test_a_report_says_what_happened_why_how_fast_and_what_was_done(healed: Incident) -> None:
    text = report.written(healed, "inc-1.svg")
    for line in ("# Incident `inc-1`: silence at `instance:predictor-0`",
                 "The first sign of it was 2.20 s before.",
                 "It commanded restart, then restart, the first 0.25 s after the opening.",
                 "| process | 83 % | silence: no heartbeat for 2.2 s, failures: 3 in 60 s (a; b) |",
                 "| dependency | 17 % | silence: no heartbeat for 2.2 s |",
                 "Root: process, on which hang gateway.",
                 "| detect | 2.20 | first sign, 2027-01-15 07:59:57.800 | opened, 2027-01-15 08:00:00.000 |",
                 "| heal | 18.25 | first command, 2027-01-15 08:00:00.250 | verified, 2027-01-15 08:00:18.500 |",
                 "![Timeline of inc-1](inc-1.svg)",
                 "| restart | 2027-01-15 08:00:15.250 | inc-1-2 | done: started again | "
                 "well again: a new process is ready |",
                 "Verified: a new process is ready."):
        assert line in text.splitlines() or line in text, line


def test_a_report_of_what_stands_says_what_is_not_known_and_takes_no_markup_from_others(standing: Incident) -> None:
    text = report.written(standing)
    assert "| detect | not known: the watchdog cannot say when it began |" in text
    assert "| decide | nothing was commanded |" in text and "| heal | not over |" in text
    assert "It is not over: a person is needed." in text and "![" not in text
    assert r"3 rows \| of 4 \<b\>bad\</b\>" in text and "<b>" not in text


def test_of_a_long_incident_it_is_said_what_is_left_out_and_no_answer_is_another_command_s() -> None:
    kept = [(float(at), what, detail) for at, (what, detail) in enumerate([
        ("opened", ""), ("commanded restart", "c-1"), *[("waits", "")] * 6, ("commanded restart", "c-2"), ("waits", ""),
        ("answered done", "of c-7"), ("commanded restart", "c-8"), ("answered done", "started")])]
    long = incident(*kept, command_ids=[f"c-{number}" for number in range(1, 9)])
    assert [(one.command_id, one.answered, one.outcome) for one in actions(long)][1:] == [
        ("c-2", "", "not known"), ("c-8", "done: started", "the incident ended")]
    text = report.written(long)
    assert "It commanded 8 times, of which 3 are told below." in text and "5 of 8 commands are left out" in text
    assert times(incident(*kept[8:], command_ids=["c-1", "c-2", "c-8"])).decide_s is None


@pytest.mark.parametrize(("said", "shown"), [
    ("see https://evil.example/x", r"see https\://evil.example/x"), ("www.evil.example", r"www\.evil.example"),
    ("ask @team at a@b.c", r"ask \@team at a\@b.c"), ("_x_ ~~y~~ &lt;", r"\_x\_ \~\~y\~\~ \&lt;")])
def test_words_from_outside_are_no_markup_and_no_address_to_follow(said: str, shown: str) -> None:
    text = report.written(incident((0, "opened", said)), "a.svg) [x](http://evil.example")
    assert shown in text and said not in text
    assert "](a.svg%29%20%5Bx%5D%28http://evil.example)" in text


def test_a_picture_is_well_formed_whatever_is_in_it(healed: Incident, standing: Incident) -> None:
    strange = incident((0, "opened", ""), (1, "a < b & \x00 c", ""), incident_id="<i>")
    for one in (healed, standing, strange, Incident(incident_id="inc-2")):
        root = ElementTree.fromstring(plot.drawn(one))
        circles = root.findall("{http://www.w3.org/2000/svg}circle")
        assert len(circles) == len(one.timeline)
        assert all(0 <= float(circle.attrib["cx"]) <= plot.WIDTH for circle in circles)
    text = plot.drawn(healed)
    assert "detect: 2.20 s" in text and "decide: 0.25 s" in text and "heal: 18.25 s" in text
    assert "goes on: 30.00 s" in plot.drawn(standing)


async def test_times_and_report_over_rest_and_by_command(healed: Incident, tmp_path: Path) -> None:
    async with open_house(tmp_path / "house") as house:
        await Incidents(house.database).open(healed, "silence:process:predictor-0")
        shown = (await house.admin.get("/v1/incidents/inc-1")).json()
        assert (shown["time_to_detect_s"], shown["time_to_decide_s"], shown["time_to_heal_s"]) == (2.2, 0.25, 18.25)
        assert (await house.admin.get("/v1/incidents")).json() == [shown]
        answered = await house.admin.get("/v1/incidents/inc-1/report")
        assert answered.headers["content-type"].startswith("text/markdown")
        assert "](timeline.svg)" in answered.text
        assert (await house.admin.get("/v1/incidents/inc-2/report")).status_code == 404
        row = json.loads((await lepton(house, "incidents", "-o", "json")).out)[0]
        assert row["time_to_heal_s"] == 18.25
        assert "18.25" in (await lepton(house, "incidents")).out
        assert "![" not in (await lepton(house, "incidents", "report", "inc-1")).out
        out = tmp_path / "what happened.md"
        done = await lepton(house, "incidents", "report", "inc-1", "--out", str(out))
        assert done.code == 0, done.err
        assert "](what%20happened.svg)" in out.read_text()
        assert ElementTree.parse(tmp_path / "what happened.svg").getroot().tag.endswith("svg")
        refused = await lepton(house, "incidents", "report", "inc-1", "--out", str(tmp_path / "a.svg"))
        assert refused.code == 1 and "ends in .md" in refused.err
        assert (await lepton(house, "incidents", "inc-1", "--out", str(out))).code == 2
        assert (await lepton(house, "incidents", "report")).code == 2
