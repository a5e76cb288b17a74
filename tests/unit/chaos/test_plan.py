"""Plans of faults: what is read, and how a mistake is told."""

from pathlib import Path

import pytest

from deploy.chaos.plan import Spoil, Strike, beside, pairs, part, read
from lepton.errors import Invalid

PLANS = Path(__file__).parents[3] / "deploy" / "chaos" / "plans"
HEAD = "apiVersion: lepton/v1\nkind: Chaos\nmetadata: {name: mine}\npipeline: phishing\n"


def written(tmp_path: Path, text: str, head: str = HEAD) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(head + text)
    return path


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_plans_that_come_with_it_are_read(path: Path, tmp_path: Path) -> None:
    assert read(path, tmp_path / "rows.csv").faults


def test_faults_of_each_kind_are_told_apart_and_rows_are_found_beside_the_plan(tmp_path: Path) -> None:
    plan = read(written(tmp_path, "flow: {rows: data/rows.csv, label: y}\nfaults:\n"
                                  "  - {name: ended, do: kill, target: ingest}\n"
                                  "  - {name: unit, do: scale, field: x, by: 100, expect: {cause: [data:*]}}\n"))
    killed, scaled = plan.faults
    assert isinstance(killed, Strike)
    assert isinstance(scaled, Spoil)
    assert (scaled.by, scaled.expect.cause if scaled.expect else ()) == (100, ("data:*",))
    assert plan.flow.rows == tmp_path / "data" / "rows.csv"


@pytest.mark.parametrize(("text", "field"), [
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: explode}]", "faults.0"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: kill}]", "faults.0.kill.target"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: hang, target: b, for_s: -1}]", "faults.0.hang.for_s"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: slow_model, products: 0}]", "faults.0.slow_model.products"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: memory, target: b, megabytes: -1}]",
     "faults.0.memory.megabytes"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: crash_loop, target: b, times: 1}]",
     "faults.0.crash_loop.times"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: loss, between: [b, c], share: 1}]", "faults.0.loss.share"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: kill, target: b, rest_s: -1}]", "faults.0.kill.rest_s"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: flip, watchdog_up_s: 4000}]",
     "faults.0.flip.watchdog_up_s"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: flip, rest_s: 9}]", "faults.0.flip.rest_s"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: flip, expect: {must: [1]}}]",
     "faults.0.flip.expect.must.0"),
    ("flow: {rows: r.csv, label: y}\nfaults: []", "faults"),
    ("flow: {rows: r.csv, label: y}\nfaults: [{name: a, do: nothing}, {name: a, do: nothing}]", "faults"),
    ("flow: {label: y}\nfaults: [{name: a, do: nothing}]", "flow.rows"),
])
def test_a_mistake_is_told_with_its_field(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(written(tmp_path, text))
    assert raised.value.field == field
    assert raised.value.place == str(tmp_path / "plan.yaml")


@pytest.mark.parametrize("head", ["kind: Pipeline\n", "[1, 2]\n", "a: [\n"])
def test_what_is_no_plan_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(Invalid):
        read(written(tmp_path, "", head=head))


FOUR = ("flow: {rows: r.csv, label: y}\npairs: {count: 20, seed: 3}\nfaults:\n"
        "  - {name: ended, do: kill, target: ingest, expect: {cause: [process:ingest], detected_s: 4, healed_s: 20}}\n"
        "  - {name: stopped, do: hang, target: ingest, for_s: 9}\n"
        "  - {name: cut, do: cut, between: [ingest, kafka]}\n"
        "  - {name: unit, do: scale, field: x, by: 100, for_s: 30, expect: {detected_s: 5, healed_s: 50}}\n"
        "  - {name: twice, do: duplicates}\n"
        "  - {name: loop, do: crash_loop, target: trainer}\n"
        "  - {name: calm, do: nothing}\n")


def test_pairs_are_drawn_by_their_seed_and_none_strikes_one_thing_twice(tmp_path: Path) -> None:
    drawn = [{first.name, second.name} for first, second in pairs(read(written(tmp_path, FOUR)))]
    assert drawn == [{first.name, second.name} for first, second in pairs(read(written(tmp_path, FOUR)))]
    assert len(drawn) == 6
    for alike in ({"ended", "stopped"}, {"ended", "cut"}, {"unit", "twice"}):
        assert alike not in drawn
    assert not any({"calm", "loop"} & one for one in drawn)
    other = [{first.name, second.name} for first, second in pairs(read(written(tmp_path, FOUR.replace("3}", "4}"))))]
    assert sorted(map(sorted, other)) == sorted(map(sorted, drawn))
    assert other != drawn


def test_a_part_of_a_plan_is_struck_once_or_two_faults_at_once(tmp_path: Path) -> None:
    plan = read(written(tmp_path, FOUR.replace("flow:", "rounds: 3\nshuffle: true\nflow:")))
    some = part(plan, ["calm", "ended"])
    assert ([one.name for one in some.faults], some.rounds, pairs(some)) == (["calm", "ended"], 1, [])
    both = part(plan, ["unit", "ended"], together=True)
    assert both.rounds == 0
    assert [(first.name, second.name) for first, second in pairs(both)] == [("unit", "ended")]
    with pytest.raises(Invalid, match="no fault nobody"):
        part(plan, ["nobody"])
    with pytest.raises(Invalid, match="--together"):
        part(plan, ["calm"], together=True)


def test_pairs_may_be_named_and_come_before_those_drawn(tmp_path: Path) -> None:
    named = FOUR.replace("{count: 20, seed: 3}", "{count: 1, seed: 3, these: [[ended, twice]]}")
    found = [(first.name, second.name) for first, second in pairs(read(written(tmp_path, named)))]
    assert (len(found), found[0]) == (2, ("ended", "twice"))
    with pytest.raises(Invalid, match="no fault nobody"):
        read(written(tmp_path, named.replace("twice]]", "nobody]]")))


def test_beside_another_fault_the_same_is_expected_later(tmp_path: Path) -> None:
    ended, stopped, _, unit, *_ = read(written(tmp_path, FOUR)).faults
    expected = beside(ended, unit)
    assert expected is not None
    assert (expected.cause, expected.detected_s, expected.healed_s) == (("process:ingest",), 84, 100)
    assert beside(stopped, ended) is None
