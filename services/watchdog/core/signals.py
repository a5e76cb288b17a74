"""Who is expected to be alive, when each was last heard, and whether the bus carries at all.

Silence counts from when a heartbeat was received, by this process's monotonic ticks: clocks of others do not matter.
The watchdog's own heartbeats take the same way as all others; while they do not come back, or come late, nothing is
said of anybody.
"""

from dataclasses import dataclass, field

from services.watchdog.core.inputs import LEAVING, READY, STARTING, Announced, Beat, Thresholds, Tick

# Heartbeats come twice a second; one that is this late makes its sender a suspect.
OVERDUE_S = 1.25
# With fewer others, their falling silent together says nothing.
FEWEST_OTHERS = 2
# For so long an answer to a direct question shows that a process lives; it is asked more often while it is late.
REACHED_S = 2.5
# A process that said goodbye is forgotten after this time.
FORGET_S = 600.0
# Of so many that withdrew, the last ones, it is known which service they were of.
MOST_GONE = 1000


@dataclass(slots=True)
class Life:
    """One process. `heard_at`: when silence began to count; `heard`: whether it ever sent a heartbeat to us."""

    instance: str
    service: str
    heard_at: float
    heard: bool = False
    boot_id: str = ""
    state: str = ""
    line_stopped: str = ""
    reached_at: float | None = None
    stopped: dict[str, str] = field(default_factory=dict)
    drained: bool = False
    begun: bool = False
    """A restart began another process, which was not heard yet: `boot_id` is of one before it."""

    @property
    def leaving(self) -> bool:
        """Whether it said goodbye; one that is drained comes back, and is missed when it falls silent."""
        return self.state in LEAVING and not self.drained

    def limit_s(self, thresholds: Thresholds) -> float:
        """How long it may be silent; one that is starting gets longer, one never heard may not even have begun."""
        if not self.heard:
            return thresholds.unheard_s
        return thresholds.start_grace_s if self.state == STARTING else thresholds.silence_s


@dataclass(slots=True)
class Lives:
    """All processes, the watchdog's own included."""

    thresholds: Thresholds
    by_name: dict[str, Life] = field(default_factory=dict)
    born_at: float | None = None
    own_heard_at: float | None = None
    own_lag_s: float = 0.0
    stalled_since: float | None = None
    amnesty_until: float = 0.0
    _gone: dict[str, str] = field(default_factory=dict)
    """By instance, the service of those that withdrew, in that order."""

    def beat(self, beat: Beat, now: float) -> None:
        life = self.by_name.setdefault(beat.instance, Life(beat.instance, beat.service, now))
        if beat.line_stopped:
            life.line_stopped = beat.line_stopped
        elif beat.boot_id != life.boot_id or beat.state == READY:
            life.line_stopped = ""
        life.stopped = beat.stopped
        life.heard_at, life.heard = now, True
        life.begun = life.begun and beat.boot_id == life.boot_id
        life.service, life.boot_id, life.state, life.drained = beat.service, beat.boot_id, beat.state, beat.drained
        if beat.instance == self.thresholds.own and beat.lag_s is not None:
            self.own_lag_s = beat.lag_s
            if beat.lag_s <= self.thresholds.canary_s:
                self.own_heard_at = now

    def announce(self, entry: Announced, now: float) -> None:
        """An entry makes an instance expected; only heartbeats keep it from being silent."""
        if entry.gone:
            self._forget(entry.instance)
        elif entry.instance not in self.by_name:
            self.by_name[entry.instance] = Life(entry.instance, entry.service, now, state=entry.state)
        elif not self.by_name[entry.instance].heard:
            self.by_name[entry.instance].state = entry.state

    def reached(self, instance: str, now: float) -> None:
        """It answered directly; that is no heartbeat, and makes nobody expected."""
        if instance in self.by_name:
            self.by_name[instance].reached_at = now

    def cut_off(self, life: Life, now: float) -> bool:
        """Whether a process that is silent was reached without the bus, and so lives."""
        return life.reached_at is not None and now - life.reached_at <= REACHED_S

    def look(self, tick: Tick) -> None:
        """Take note of what this tick says of ourselves: a pause of our own, a bus that stalls or flows again."""
        now = tick.monotonic_s
        if self.born_at is None:
            self.born_at = now
        if tick.gap_s > self.thresholds.pause_s:
            self._start_over(now)
        # The first heartbeat of our own may take as long as any start.
        allowed_s = self.thresholds.start_grace_s if self.own_heard_at is None else self.thresholds.canary_s
        newest = self.born_at if self.own_heard_at is None else self.own_heard_at
        stalled = now - newest > allowed_s
        if stalled and self.stalled_since is None:
            self.stalled_since = newest
        elif not stalled and self.stalled_since is not None:
            self._flows_again(now, now - self.stalled_since)
            self.stalled_since = None
        for name in [name for name, life in self.by_name.items() if life.leaving and now - life.heard_at > FORGET_S]:
            self._forget(name)

    def forgive(self, now: float) -> None:
        """Everybody fell silent together and some are back: the rest get the time that reconnecting may take."""
        self._flows_again(now, self.thresholds.reconnect_s)

    def may_judge(self, now: float) -> bool:
        """Whether silence means anything at this moment."""
        return self.own_heard_at is not None and self.stalled_since is None and now >= self.amnesty_until

    def stalled_s(self, now: float) -> float:
        """How long our own heartbeats have not come back; 0 while they do."""
        return now - self.stalled_since if self.stalled_since is not None else 0.0

    def others(self) -> list[Life]:
        """Those expected to beat, without ourselves."""
        return [life for name, life in self.by_name.items() if name != self.thresholds.own and not life.leaving]

    def of(self, service: str) -> list[Life]:
        """Processes of a service, those on their way out excepted. One that fell silent counts: it is restarted."""
        return [life for life in self.by_name.values() if life.service == service and not life.leaving]

    def service_of(self, instance: str) -> str:
        """Of which service a process is, or was before it withdrew; empty where nobody of that name was known."""
        life = self.by_name.get(instance)
        return life.service if life is not None else self._gone.get(instance, "")

    def steady(self, service: str, now: float) -> bool:
        """Whether all of them work: before that, nobody knows what they can do together."""
        return all(life.heard and life.state == READY and not self.silent(life, now) for life in self.of(service))

    def silent(self, life: Life, now: float) -> bool:
        return not life.leaving and now - life.heard_at > life.limit_s(self.thresholds)

    def all_silent(self, now: float) -> bool:
        """Whether every other process that was ever heard is silent, and there are enough to make that telling."""
        heard = [life for life in self.others() if life.heard]
        return len(heard) >= FEWEST_OTHERS and all(self.silent(life, now) for life in heard)

    def all_overdue(self, now: float) -> bool:
        """Whether every other process that was ever heard is late: perhaps about to be silent together."""
        heard = [life for life in self.others() if life.heard]
        return len(heard) >= FEWEST_OTHERS and all(now - life.heard_at > OVERDUE_S for life in heard)

    def calm(self, now: float, settle_s: float) -> bool:
        """Whether nobody is away whom others may miss: none is silent, starting, or left in `settle_s`."""
        return self.may_judge(now) and not any(
            life.state == STARTING or self.silent(life, now) or (life.leaving and now - life.heard_at < settle_s)
            for life in self.by_name.values())

    def _forget(self, instance: str) -> None:
        life = self.by_name.pop(instance, None)
        if life is None:
            return
        self._gone.pop(instance, None)
        self._gone[instance] = life.service
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _start_over(self, now: float) -> None:
        """We ourselves stood still: what came meanwhile was not seen, so silence counts from now."""
        for life in self.by_name.values():
            life.heard_at = max(life.heard_at, now)
        self.born_at = now
        if self.own_heard_at is not None:
            self.own_heard_at = now
        self.stalled_since = None

    def _flows_again(self, now: float, stalled_s: float) -> None:
        # Clients of a broker that was away come back one by one; the longer it was away, the later the last of them.
        self.amnesty_until = max(self.amnesty_until, now + min(self.thresholds.reconnect_s, 2 * stalled_s))
