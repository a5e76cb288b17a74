"""Whatever reaches the watchdog: its journal replays to the same decisions, and its bounds hold."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.watchdog.core import incident as life
from services.watchdog.core.engine import Engine
from services.watchdog.core.inputs import (
    Announced,
    Answered,
    AnyInput,
    Beat,
    Called,
    Decision,
    Failures,
    Figures,
    Judged,
    Leads,
    ModelSeen,
    Predicted,
    Requests,
    Rules,
    RunEnded,
    Thresholds,
    Tick,
)
from services.watchdog.core.journal import MAX_TICKS, Journal, read_decisions, replay
from services.watchdog.core.quality.join import Joiner, Prediction
from services.watchdog.core.summaries.counts import (
    FieldRows,
    Labelled,
    MemberRows,
    Opined,
    RowsSeen,
    SchemaRows,
    SourceRows,
)
from services.watchdog.core.thresholds.limits import BrokenRule, QualityRule, SloRule

NAMES = st.sampled_from(["watchdog", "actuator", "ingest", "gateway", "predictor-0"])
STATES = st.sampled_from(["ready", "starting", "not_ready", "draining", "stopped"])
RULE = QualityRule("accuracy", 20, 10, 0.15)

beats = st.builds(Beat, NAMES, NAMES, st.sampled_from(["a", "b"]), STATES,
                  st.sampled_from(["", "", "", "line is stopped"]), st.sampled_from([None, 0.0, 3.0]),
                  st.sampled_from([{}, {}, {"accept p": "too many"}, {"accept p": "more", "keep features q": "some"}]))
inputs: st.SearchStrategy[AnyInput] = st.one_of(
    beats, beats,
    st.builds(Announced, NAMES, NAMES, STATES, st.booleans()),
    st.builds(Rules, st.just("p"), st.booleans(), st.sampled_from([None, RULE]),
              budget_actions=st.integers(0, 3), cool_down_s=st.floats(0, 5), slo=st.just(SloRule(0.999, 50.0))),
    st.builds(ModelSeen, st.just("p"), st.integers(1, 5), st.integers(0, 3), st.integers(0, 3),
              st.just({"accuracy": 0.9, "calibration_error": 0.01}), st.just(100)),
    st.builds(Judged, st.just("p"), st.integers(1, 3), st.sampled_from(["x", "y"]), st.sampled_from(["x", "y"]),
              sure=st.sampled_from([None, 0.6, 0.9]), late_s=st.sampled_from([0.0, 50.0])),
    st.builds(lambda bad: RowsSeen("p", (SourceRows("s", 100 - bad, bad, 0, 0), SourceRows("t", 100, 0, 0, 0))),
              st.integers(0, 100)),
    st.builds(lambda middle: RowsSeen("p", (SourceRows("s", 300, 0, 0, 0),), 0.0, (
        FieldRows("x", histogram=((middle - 1, middle, middle + 1), (150, 150)), mean=middle, std=0.5, counted=300),)),
        st.floats(-3, 3)),
    st.builds(Predicted, st.just("p"), st.integers(1, 3), st.sampled_from([(), (("x", 200),), (("y", 300),)]),
              sure=st.sampled_from([(), ((95, 200),), ((55, 300),)])),
    st.builds(Figures, NAMES, NAMES, st.sampled_from(["a", "b"]), st.tuples(
        st.tuples(st.sampled_from(["process_files_share", "host_cpu_share"]), st.just(""), st.floats(0, 1)))),
    st.builds(Requests, st.just("p"), st.integers(0, 100), st.integers(0, 100), st.just(((20.0, 5), (1e9, 5)))),
    st.builds(Called, NAMES, NAMES, st.tuples(st.tuples(
        st.sampled_from(["request", "read", "write"]), NAMES, st.just(3), st.integers(0, 3), st.just(0.5)))),
    st.builds(Opined, st.just("p"), st.integers(1, 3), NAMES, st.integers(0, 60), st.integers(0, 60)),
    st.builds(Labelled, st.just("p"), st.integers(0, 200), st.booleans()),
    st.builds(Failures, NAMES, NAMES, st.just((("bug", 40, "it broke"),))),
    st.builds(RunEnded, st.just("p"), st.just("run"), st.sampled_from(["failed", "succeeded", "rejected"]),
              name=st.sampled_from(["", "nan_loss"]), rows=st.sampled_from([0, 500]), reason=st.just("rows")),
    st.builds(Answered, st.sampled_from(["inc-0-1"]), st.sampled_from(["done", "refused"])),
    st.builds(Leads, st.integers(0, 3)),
)
steps = st.lists(st.tuples(st.sampled_from([0.25, 0.25, 0.25, 0.6, 3.0]), st.lists(inputs, max_size=6)), max_size=120)


def live(days: list[tuple[float, list[AnyInput]]]) -> tuple[list[list[Decision]], list[str], list[str]]:
    """Decisions as made, and the journal's bodies of inputs and of decisions."""
    thresholds = Thresholds(own="watchdog")
    engine, journal = Engine(thresholds), Journal(thresholds)
    made: list[list[Decision]] = []
    bodies: dict[str, list[str]] = {"signal": [], "decision": []}
    now = 100.0
    engine.step(Tick(now, now, 0.0), [Leads(1)])
    for kind, body in journal.note(Tick(now, now, 0.0), [Leads(1)], []):
        bodies[kind].append(body)
    for gap_s, came in days:
        now += gap_s
        tick = Tick(now, 1e9 + now, gap_s)
        # An answer is to a command that was given.
        named = [Answered(engine.open[next(iter(engine.open))].command_ids[-1], one.outcome)
                 if isinstance(one, Answered) and engine.open and engine.open[next(iter(engine.open))].command_ids
                 else one for one in came]
        decided = engine.step(tick, named)
        if decided:
            made.append(decided)
        for kind, body in journal.note(tick, named, decided):
            bodies[kind].append(body)
    assert engine.step(Tick(now, 1e9 + now, 0.0), [Leads(0)]) == []
    for _ in range(MAX_TICKS):
        for kind, body in journal.note(Tick(now, 1e9 + now, 0.0), [Leads(0)], []):
            bodies[kind].append(body)
    return made, bodies["signal"], bodies["decision"]


def lifts(decision: Decision) -> bool:
    """Whether its command ends what the incident held back, out or still: that counts against no budget."""
    command, incident = decision.command, decision.incident
    return command is not None and incident.state == life.VERIFIED and command.action in ("restore", "resume") and (
        command.command_id.startswith(f"{incident.id}-lift"))


@settings(max_examples=150, deadline=None)
@given(steps)
def test_a_journal_replays_to_the_decisions_that_were_made(days: list[tuple[float, list[AnyInput]]]) -> None:
    made, signals, decisions = live(days)
    assert list(replay(signals)) == made
    assert [read_decisions(body) for body in decisions] == made


@settings(max_examples=150, deadline=None)
@given(steps)
def test_incidents_move_only_as_they_may_and_commands_stay_within_bounds(
        days: list[tuple[float, list[AnyInput]]]) -> None:
    made, _, _ = live(days)
    decisions = [decision for step in made for decision in step]
    latest: dict[str, Any] = {}
    for decision in decisions:
        incident, before = decision.incident, latest.get(decision.incident.id)
        if before is None:
            assert incident.state == life.SUSPECTED
        else:
            assert incident.state == before.state or incident.state in life.FOLLOWS[before.state]
        latest[incident.id] = incident
        if decision.command is not None:
            assert decision.command.command_id in incident.command_ids[-1:] or lifts(decision)
            assert decision.command.target not in ("instance:watchdog", "instance:actuator")
    ids = Counter(decision.command.command_id for decision in decisions if decision.command)
    assert all(count == 1 for count in ids.values())
    targets = Counter(decision.command.target for decision in decisions
                      if decision.command and not lifts(decision))
    assert all(count <= 6 for count in targets.values())


def shown(refused: str, out: bool, paused: bool, renamed: bool = False) -> list[AnyInput]:
    """What ingest says in an interval; `refused`: the field for which most rows are, if any, since it is `renamed`."""
    form = SchemaRows("s", 60, *((MemberRows(name, 57, "number"),) for name in ("z", refused) if renamed and refused))
    told: AnyInput = Figures("ingest", "ingest", "a", (("lepton_ingest_paused", "p", float(paused)),))
    away = 280 if refused == "y" or (refused and not out) else 0
    return [told] if paused else [told, RowsSeen("p", (SourceRows("s", 300 - away, away, 0, 0),), 0.0, (
        FieldRows("x", invalid=280 if refused == "x" else 0, present=300 - away, quarantined=out,
                  incident_id="inc-1" if out else ""), FieldRows("y", invalid=280 if refused == "y" else 0,
                                                                 present=300 - away)), schemas=(form,))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.builds(shown, st.sampled_from(["", "", "x", "y"]), st.booleans(), st.booleans(),
                                    st.booleans()), st.integers(1, 12)), max_size=8), st.integers(0, 6))
def test_fields_that_break_and_pauses_replay_within_the_budget(phases: list[tuple[list[AnyInput], int]],
                                                               budget: int) -> None:
    rules = Rules("p", budget_actions=budget, cool_down_s=1.0, broken=BrokenRule(
        {"x": True, "y": False}, after_s=1.0, restore_after_s=1.0, resume_after_s=2.0))
    days: list[tuple[float, list[AnyInput]]] = [(0.25, [rules]), *((0.9, shown("", False, False)) for _ in range(3))]
    days += [step for what, times in phases for _ in range(times) for step in ((0.9, what), (0.9, []))]
    made, signals, _ = live(days)
    assert list(replay(signals)) == made
    assert sum(decision.command is not None and not lifts(decision) for step in made for decision in step) <= budget


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=200))
def test_each_event_is_judged_once_whatever_comes_first_and_however_often(
        arrivals: list[tuple[bool, int]]) -> None:
    joiner = Joiner("p")
    given_on: list[Judged] = []
    for is_prediction, number in arrivals:
        if is_prediction:
            joiner.predicted(f"e{number}", Prediction(number, "x"))
        else:
            joiner.turned_out(f"e{number}", "x")
        given_on += joiner.take()
    both = {number for is_prediction, number in arrivals if is_prediction} & {
        number for is_prediction, number in arrivals if not is_prediction}
    assert Counter(row.version for row in given_on) == Counter(both)


@given(st.lists(st.integers(0, 1000), max_size=300))
def test_what_waits_to_be_joined_is_bounded(numbers: list[int]) -> None:
    joiner = Joiner("p", limit=10)
    for number in numbers:
        joiner.predicted(f"e{number}", Prediction(1, "x"))
        joiner.turned_out(f"o{number}", "x")
    assert len(joiner._predictions._entries) <= 10
    assert len(joiner._outcomes._entries) <= 10
