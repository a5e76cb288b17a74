"""Whether this process is well, judged by progress: work that should move, and does not, makes it not ready.

One that is well is not ready either while it is drained, so that nobody gives it more to do.
"""

from dataclasses import dataclass
from typing import TypeAlias

from lepton.clock import Clock
from lepton.contracts.pb import telemetry_pb2

State: TypeAlias = "telemetry_pb2.InstanceState.ValueType"


class Progress:
    """One kind of work that must show it moves at least every `deadline_s` seconds."""

    def __init__(self, name: str, deadline_s: float, clock: Clock) -> None:
        self.name = name
        self._deadline_s = deadline_s
        self._clock = clock
        self._beaten_at = clock.monotonic()
        self._reason: str | None = None

    def beat(self) -> None:
        """The work moved, or has nothing to do; clears an earlier `fail`."""
        self._beaten_at = self._clock.monotonic()
        self._reason = None

    def fail(self, reason: str) -> None:
        """The work cannot go on, for the reason given, until the next `beat`."""
        self._reason = reason

    def failure(self) -> str | None:
        """Why this is not alive; None when it is."""
        if self._reason is not None:
            return self._reason
        silent_s = self._clock.monotonic() - self._beaten_at
        return f"no progress for {silent_s:.1f} s" if silent_s > self._deadline_s else None


@dataclass(frozen=True, slots=True)
class _Condition:
    ok: bool
    reason: str


class Health:
    """Ready means: started, neither stopping nor drained, every condition holds and every check is alive."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checks: dict[str, Progress] = {}
        self._conditions: dict[str, _Condition] = {}
        self._notes: dict[str, str] = {}
        self._phase: State = telemetry_pb2.INSTANCE_STATE_STARTING
        self._drained_until = float("-inf")

    def check(self, name: str, deadline_s: float) -> Progress:
        """A new check, alive from now; it replaces one of the same name."""
        progress = Progress(name, deadline_s, self._clock)
        self._checks[name] = progress
        return progress

    def forget(self, name: str) -> None:
        """Drop a check or condition whose work ended on purpose."""
        self._checks.pop(name, None)
        self._conditions.pop(name, None)

    def set_condition(self, name: str, ok: bool, reason: str = "") -> None:
        """State of something that is true or not, without a deadline; `reason` says why it is not."""
        self._conditions[name] = _Condition(ok, reason)

    def note(self, name: str, text: str) -> None:
        """Something a person should know that keeps nobody from being ready; an empty text takes it back."""
        if text:
            self._notes[name] = text
        else:
            self._notes.pop(name, None)

    def enter(self, phase: State) -> None:
        """Phase of life: STARTING, READY (started), DRAINING, STOPPED. Set by the Service alone."""
        self._phase = phase

    def drain(self, until: float) -> None:
        """Be DRAINING until `until` (monotonic seconds), whatever else holds; then, or at `serve`, all is as before."""
        self._drained_until = until

    def serve(self) -> None:
        """End a drain before its time."""
        self._drained_until = float("-inf")

    @property
    def drained_until(self) -> float:
        """What `drain` was given last, monotonic seconds; minus infinity when it was let go."""
        return self._drained_until

    @property
    def drained(self) -> bool:
        """Whether it is DRAINING and will serve again; not so of one that stops."""
        return self._phase == telemetry_pb2.INSTANCE_STATE_READY and self._clock.monotonic() < self._drained_until

    @property
    def ready(self) -> bool:
        return self.state == telemetry_pb2.INSTANCE_STATE_READY

    @property
    def state(self) -> State:
        if self.drained:
            return telemetry_pb2.INSTANCE_STATE_DRAINING
        if self._phase == telemetry_pb2.INSTANCE_STATE_READY and self.failing():
            return telemetry_pb2.INSTANCE_STATE_NOT_READY
        return self._phase

    def failing(self) -> dict[str, str]:
        """Checks and conditions that do not hold, with the reason."""
        failures = {name: why for name, check in self._checks.items() if (why := check.failure()) is not None}
        return failures | {name: one.reason or "not so" for name, one in self._conditions.items() if not one.ok}

    def report(self) -> dict[str, object]:
        """What /readyz answers."""
        return {
            "state": telemetry_pb2.InstanceState.Name(self.state).removeprefix("INSTANCE_STATE_").lower(),
            "ready": self.ready,
            "checks": sorted([*self._checks, *self._conditions]),
            "failing": self.failing(),
            "notes": dict(self._notes),
        }
