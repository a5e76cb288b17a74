"""Versions in memory as a state machine: what answers is open, what is leased is not closed, all else is freed once."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lepton.errors import LeptonError
from services.predictor.core.slots import Lease, Slots, State

MODELS = st.sampled_from(["a", "b"])


class Engine:
    def __init__(self, model: str, version: int) -> None:
        self.model = model
        self.version = version
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class SlotsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots[Engine] = Slots()
        self.all: list[Engine] = []
        self.held: list[tuple[Lease[Engine], Engine]] = []
        self.champion: dict[str, int] = {}
        self.next_version = 1

    @rule(model=MODELS)
    def load(self, model: str) -> None:
        engine = Engine(model, self.next_version)
        self.next_version += 1
        self.slots.put(model, engine.version, engine)
        self.all.append(engine)

    @rule(model=MODELS, data=st.data())
    def flip(self, model: str, data: st.DataObject) -> None:
        resident = list(self.slots.resident(model))
        if resident:
            version = data.draw(st.sampled_from(resident))
            keep = frozenset(data.draw(st.lists(st.sampled_from(resident), max_size=1)))
            self.slots.flip(model, version, keep)
            self.champion[model] = version
            assert set(self.slots.resident(model)) <= {version} | keep

    @rule(model=MODELS)
    def flip_to_what_is_not_there(self, model: str) -> None:
        before = self.slots.resident(model)
        try:
            self.slots.flip(model, 10_000)
            raise AssertionError("a version that is not in memory took over")
        except KeyError:
            assert self.slots.resident(model) == before

    @rule(model=MODELS, data=st.data())
    def load_twice(self, model: str, data: st.DataObject) -> None:
        resident = list(self.slots.resident(model))
        if resident:
            before = self.slots.resident(model)
            try:
                self.slots.put(model, data.draw(st.sampled_from(resident)), Engine(model, 0))
                raise AssertionError("a version was put in memory twice")
            except ValueError:
                assert self.slots.resident(model) == before

    @rule(model=MODELS)
    def forget(self, model: str) -> None:
        self.slots.forget(model)
        self.champion.pop(model, None)
        assert self.slots.resident(model) == {}

    @rule(model=MODELS, data=st.data())
    def lease(self, model: str, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from([0, *self.slots.resident(model), 10_000]))
        try:
            lease = self.slots.lease(model, version)
        except LeptonError:
            assert version == 10_000 or (version == 0 and model not in self.champion)
            return
        engine = lease.__enter__()
        assert engine.version == lease.version == (version or self.champion[model])
        self.held.append((lease, engine))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        lease.__exit__(None, None, None)

    @invariant()
    def what_answers_is_open(self) -> None:
        for model in ("a", "b"):
            assert self.slots.serving(model) == self.champion.get(model, 0)
            serving = [version for version, state in self.slots.resident(model).items() if state is State.SERVING]
            assert serving == ([self.champion[model]] if model in self.champion else [])

    @invariant()
    def what_is_leased_is_open(self) -> None:
        assert all(engine.closed == 0 for _, engine in self.held)
        assert self.slots.leases() == len(self.held)

    @invariant()
    def what_is_neither_resident_nor_leased_was_closed_once(self) -> None:
        resident = {(model, version) for model in self.slots.models() for version in self.slots.resident(model)}
        leased = {engine for _, engine in self.held}
        for engine in self.all:
            in_memory = (engine.model, engine.version) in resident or engine in leased
            assert engine.closed == (0 if in_memory else 1)
        assert {engine for engine in self.all if not engine.closed} == set(self.slots.engines())


TestSlots = SlotsMachine.TestCase
