"""Which versions of each model are in memory, which one answers, and when one may be freed.

A version is put here loaded and warm, takes over by a flip, stays while it is kept for a roll back, then drains: it is
closed once nobody holds a lease on it. Nothing here can fail half-way, so a load that fails elsewhere changes nothing.
"""

from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from lepton.errors import Missing, Unavailable


class Closable(Protocol):
    def close(self) -> None:
        """Free the memory; called once, when no lease is left."""


E = TypeVar("E", bound=Closable)


class State(Enum):
    WARM = "warm"
    """Loaded, waits for the flip; already answers requests that name its version."""
    SERVING = "serving"
    KEPT = "kept"
    """Answered before and stays for an immediate roll back, or is tried beside the version that answers."""
    DRAINING = "draining"
    """Takes no new request, is closed with its last lease."""


class Lease(Generic[E]):
    """The right to use one engine inside a `with` block; it is not closed before the block ends."""

    __slots__ = ("_lasting", "_slot", "_slots")

    def __init__(self, slots: "Slots[E]", slot: "_Slot[E]") -> None:
        self._slots = slots
        self._slot = slot
        self._lasting = False

    @property
    def version(self) -> int:
        return self._slot.version

    def last(self) -> E:
        """Begin a lease that is held for requests to come, and is no sign that the engine is in use now. Ended by
        `__exit__`."""
        self._slot.lasting += 1
        self._lasting = True
        return self.__enter__()

    def __enter__(self) -> E:
        self._slot.leases += 1
        return self._slot.engine

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._slot.leases -= 1
        self._slot.lasting -= self._lasting
        if self._slot.state is State.DRAINING:
            self._slots.free(self._slot)


class _Slot(Generic[E]):
    __slots__ = ("engine", "lasting", "leases", "model", "state", "version")

    def __init__(self, model: str, version: int, engine: E) -> None:
        self.model = model
        self.version = version
        self.engine = engine
        self.state = State.WARM
        self.leases = 0
        self.lasting = 0


class Slots(Generic[E]):
    """For one thread: the event loop's."""

    def __init__(self) -> None:
        self._resident: dict[str, dict[int, _Slot[E]]] = {}
        self._serving: dict[str, _Slot[E]] = {}
        self._draining: set[_Slot[E]] = set()
        self.changed: Callable[[], None] = lambda: None
        """Called after each change of what is in memory, and which of it answers."""

    def put(self, model: str, version: int, engine: E) -> None:
        """Add a loaded, warm engine. The version must not be resident already."""
        versions = self._resident.setdefault(model, {})
        if version in versions:
            raise ValueError(f"{model} v{version} is in memory already")
        versions[version] = _Slot(model, version, engine)
        self.changed()

    def flip(self, model: str, version: int, keep: frozenset[int] = frozenset()) -> None:
        """From now on `version`, which must be resident, answers; of the others only `keep` stay."""
        versions = self._resident[model]
        slot = versions[version]
        for other in list(versions.values()):
            if other is slot:
                continue
            if other.version in keep:
                other.state = State.KEPT
            else:
                self._drain(other)
        slot.state = State.SERVING
        self._serving[model] = slot
        self.changed()

    def forget(self, model: str) -> None:
        """Drain every version of the model."""
        self._serving.pop(model, None)
        for slot in list(self._resident.get(model, {}).values()):
            self._drain(slot)
        self.changed()

    def lease(self, model: str, version: int = 0) -> Lease[E]:
        """Of the version that answers, or of the resident one named.

        Raises Missing when the model or version is not in memory, Unavailable when none of the model answers yet.
        """
        slot = self._serving.get(model) if version == 0 else self._resident.get(model, {}).get(version)
        if slot is not None:
            return Lease(self, slot)
        versions = self._resident.get(model)
        if not versions:
            raise Missing(f"there is no model `{model}` here", field="model",
                          remedy=f"ask for one of: {', '.join(sorted(self._serving)) or '(none is loaded)'}")
        if version == 0:
            raise Unavailable(f"no version of `{model}` answers yet", field="model", remedy="send again later")
        raise Missing(f"version {version} of `{model}` is not in memory", field="version",
                      remedy=f"ask for one of: {', '.join(map(str, sorted(versions)))}, or name none")

    def serving(self, model: str) -> int:
        """The version that answers; 0 when none does."""
        slot = self._serving.get(model)
        return 0 if slot is None else slot.version

    def resident(self, model: str) -> dict[int, State]:
        return {version: slot.state for version, slot in sorted(self._resident.get(model, {}).items())}

    def models(self) -> list[str]:
        """Models with a version in memory."""
        return sorted(model for model, versions in self._resident.items() if versions)

    def engines(self, *, draining: bool = True) -> list[E]:
        """Every engine not yet closed, the draining ones too unless told otherwise."""
        resident = [slot.engine for versions in self._resident.values() for slot in versions.values()]
        return resident + [slot.engine for slot in self._draining] if draining else resident

    def busy(self, model: str) -> bool:
        """Whether a version of the model is leased; lasting leases count for nothing."""
        return any(slot.leases > slot.lasting for slot in self._resident.get(model, {}).values())

    def leases(self) -> int:
        """Leases held now."""
        resident = sum(slot.leases for versions in self._resident.values() for slot in versions.values())
        return resident + sum(slot.leases for slot in self._draining)

    def free(self, slot: "_Slot[E]") -> None:
        """Close a draining engine if this was its last lease."""
        if slot.leases == 0 and slot in self._draining:
            self._draining.discard(slot)
            slot.engine.close()

    def _drain(self, slot: "_Slot[E]") -> None:
        versions = self._resident[slot.model]
        del versions[slot.version]
        if not versions:
            del self._resident[slot.model]
        slot.state = State.DRAINING
        self._draining.add(slot)
        self.free(slot)
