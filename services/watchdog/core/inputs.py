"""Everything the watchdog's decisions may depend on, as values that a journal can hold; time comes as ticks only."""

from typing import Final

import msgspec

from services.watchdog.core.orders.command import Command
from services.watchdog.core.summaries.counts import Labelled, Opined, RowsSeen
from services.watchdog.core.thresholds.limits import (
    BrokenRule,
    DriftRule,
    FeedbackRule,
    Ladders,
    Limits,
    QualityRule,
    SharesRule,
    SloRule,
    VolumeRule,
)

READY, STARTING = "ready", "starting"
LEAVING: Final = frozenset({"draining", "stopped"})


class Input(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all inputs; written as an array that begins with the class's name, since a journal is mostly these."""


class Tick(Input, frozen=True):
    """A look at the clocks. `gap_s` is how long after the tick before it came; inputs given with it came by then."""
    monotonic_s: float
    wall_s: float
    gap_s: float


class Beat(Input, frozen=True):
    """A heartbeat. `lag_s` is how old it was when read, known of the watchdog's own only (one clock).

    `stopped`: why a limit stopped what stands still (`accept shop`), as long as it does. `drained`: it serves again.
    """

    instance: str
    service: str
    boot_id: str
    state: str
    line_stopped: str = ""
    lag_s: float | None = None
    stopped: dict[str, str] = {}
    drained: bool = False


class Again(Input, frozen=True):
    """In a journal only: heartbeats that say the same as the one before of their instance; `lag_s` of our own."""
    instances: tuple[str, ...]
    lag_s: float | None = None


class Reached(Input, frozen=True):
    """A process that is late on the bus answered when it was asked directly."""
    instance: str


class Announced(Input, frozen=True):
    """An entry of `lepton-instances`; `gone` when the instance took itself off. `address`: where it is called."""

    instance: str
    service: str = ""
    state: str = ""
    gone: bool = False
    address: str = ""


class Rules(Input, frozen=True):
    """What a Pipeline says of watching and healing; `quality` None: it has no label. `maintenance`: first minute of the
    day and the one after the last, UTC. `replicas`: fewest and most predictors."""

    pipeline: str
    deleted: bool = False
    quality: QualityRule | None = None
    bad_share: float = 0.3
    window_s: float = 5.0
    min_rows: int = 50
    budget_actions: int = 6
    budget_per_s: float = 600.0
    cool_down_s: float = 20.0
    notify: tuple[str, ...] = ()
    drift: DriftRule = DriftRule()
    shares: SharesRule = SharesRule()
    volume: VolumeRule = VolumeRule()
    slo: SloRule | None = None
    dry_run: tuple[str, ...] = ()
    maintenance: tuple[tuple[int, int], ...] = ()
    approval: tuple[str, ...] = ()
    approval_s: float = 3_600.0
    ladders: Ladders = Ladders()
    replay_after: tuple[str, ...] = ()
    replicas: tuple[int, int] = (1, 1)
    partitions: int = 0  # of its events; 0: not known
    broken: BrokenRule = BrokenRule()
    feedback: FeedbackRule = FeedbackRule()


class ModelSeen(Input, frozen=True):
    """The registry's state of a model; `metrics` are the champion's at publication, on `held_out` rows."""

    model: str
    revision: int
    champion: int
    previous: int
    metrics: dict[str, float] = {}
    held_out: int = 0


class Predicted(Input, frozen=True):
    """Answers of a version since the tick before: how often each name, or some of the numbers. `sure`: (percent, how
    often a name was given with that probability), of all names that came with probabilities."""

    pipeline: str
    version: int
    names: tuple[tuple[str, int], ...] = ()
    numbers: tuple[float, ...] = ()
    sure: tuple[tuple[int, int], ...] = ()


class Requests(Input, frozen=True):
    """Requests for a model since the tick before; `failed` by a fault of ours. `times`: (up to so many ms, how many),
    those that took longer than any length that is counted at 1e9. `refused`: those of the failed for which there was no
    room. `shed`: turned away for their priority, neither ok nor failed. `levels`, where the model has some: (level,
    whether the request named it, how many), of all."""

    model: str
    ok: int
    failed: int
    times: tuple[tuple[float, int], ...] = ()
    refused: int = 0
    shed: int = 0
    levels: tuple[tuple[int, bool, int], ...] = ()


class ClientsSeen(Input, frozen=True):
    """What a gateway was asked since its heartbeat before: (model, key id, requests), those of keys it does not name
    under an empty id; and requests it refused because their key is throttled: (key id, requests)."""

    asked: tuple[tuple[str, str, int], ...]
    throttled: tuple[tuple[str, int], ...] = ()


class Judged(Input, frozen=True):
    """A prediction whose outcome is known. `chance`: probability given to the true class (classification);
    `score`: probability of the second of two classes; `sure`: probability of the answer. `late_s`: from when the
    prediction was read to when its outcome was."""

    pipeline: str
    version: int
    truth: str | float
    answer: str | float
    chance: float | None = None
    score: float | None = None
    sure: float | None = None
    late_s: float = 0.0


class Unusable(Input, frozen=True):
    """A predictor complains of a version: `rows` of its answers since the heartbeat before were no numbers, or it could
    not be loaded because it does not hold (`refused` says why; `lost`: SHA-256 of a file that is nowhere whole)."""

    instance: str
    model: str
    version: int
    rows: int = 0
    refused: str = ""
    lost: str = ""


class RunEnded(Input, frozen=True):
    """A training run, which learnt from `rows`, reached `state`: succeeded, rejected, failed or cancelled.

    `command_id` is of the training command; one that follows from a recovery command ends in that one's id. `failure`:
    data, parameter, resource or internal; `name`: what happened, as one word. `reason`: rows, command or recovery.
    """

    model: str
    run_id: str
    state: str
    why: str = ""
    command_id: str = ""
    failure: str = ""
    name: str = ""
    rows: int = 0
    reason: str = ""


class Figures(Input, frozen=True):
    """What a process measured of itself: (name, what it is about, value); a machine's figures are about its name.

    Values hold until they are said again; only those that changed are given, and all of them every ten seconds.
    """

    instance: str
    service: str
    boot_id: str
    readings: tuple[tuple[str, str, float], ...]


class Failures(Input, frozen=True):
    """What went wrong in a process since its heartbeat before: (kind, how often, the last one's message)."""

    instance: str
    service: str
    kinds: tuple[tuple[str, int, str], ...]


class Lines(Input, frozen=True):
    """Warnings and errors a process logged since its heartbeat before: (pattern, level, how often, trace id or "")."""

    instance: str
    service: str
    patterns: tuple[tuple[str, str, int, str], ...]


class Called(Input, frozen=True):
    """Whom a process called since it told of them last: (way, callee, how often, failed, seconds of all together).

    Way: request (callee: an address), database, write or read (callee: a pipeline's topic, or `broker`).
    """

    instance: str
    service: str
    calls: tuple[tuple[str, str, int, int, float], ...]


class Alerted(Input, frozen=True):
    """Another monitoring system says that something is wrong, until `ends_s` (wall time) unless it says so again.
    `about`: its name and what it is about (`HighErrorRate/web-1`). `severity`: its own word, as `critical`.
    """

    fingerprint: str
    about: str
    severity: str
    pipeline: str
    summary: str
    ends_s: float


class Answered(Input, frozen=True):
    """What became of a command: done, refused or failed. `found_ended`: whom a restart found ended by themselves."""

    command_id: str
    outcome: str
    evidence: str = ""
    found_ended: tuple[str, ...] = ()


class Approval(Input, frozen=True):
    """A person's word on the action an incident asked for; `rung`: how many commands it had then."""

    incident_id: str
    approved: bool
    rung: int
    by: str


class Note(msgspec.Struct, frozen=True):
    """A line in an incident's timeline; `at_s` wall time since the epoch."""

    at_s: float
    what: str
    detail: str = ""


class Incident(msgspec.Struct, frozen=True):
    """One thing that is or was wrong. `state`: suspected, commanded, verified, escalated.

    `awaiting`: action that waits for a person's word, until `approve_by_s`. `held`: whom it holds back, until
    `held_until`. `also`: its other symptoms. From `rung` on: working memory, not stored, but `began_s`: wall time of
    the first sign, 0: not known.
    """

    id: str
    symptom: str
    cause: str
    target: str
    pipeline: str
    state: str
    opened_s: float
    decided_s: float = 0.0
    closed_s: float = 0.0
    timeline: tuple[Note, ...] = ()
    command_ids: tuple[str, ...] = ()
    verdict: str = ""
    awaiting: str = ""
    approve_by_s: float = 0.0
    rung: int = 0
    action: str = ""
    commanded_at: float = 0.0
    deadline: float = 0.0
    answered: str = ""
    boot_id: str = ""
    from_version: int = 0
    labels: int = 0
    since: float = 0.0
    held: tuple[str, ...] = ()
    held_until: float = 0.0
    began_s: float = 0.0
    also: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What may be open only once."""
        return f"{self.symptom}:{self.cause}"


class Leads(Input, frozen=True):
    """The lease was won (`fence` > 0, with the incidents that are open, and those lately closed) or lost (0)."""

    fence: int
    incidents: tuple[Incident, ...] = ()


class AlreadyOpen(Input, frozen=True):
    """The store holds another incident for what was to be opened: go on with that one."""

    incident: Incident


class Decision(msgspec.Struct, frozen=True):
    """An incident as it now stands, with the command that goes with it, and what a person is told (empty: nothing)."""

    incident: Incident
    command: Command | None = None
    alert: str = ""
    notify: tuple[str, ...] = ()


class Thresholds(Input, frozen=True):
    """What is judged by, for everything no Pipeline speaks of. The first entry of a journal.

    `own`: name of this instance, whose heartbeats show that the bus carries. `canary_s`: how old the newest of them
    may be while others are judged. `reconnect_s`: longest time granted to clients of a broker that came back.
    `approval`: actions that wait for a person's word, for `approval_s` at most. `hold_s`: so long a client is held back
    at most. `young_s`: so long a new champion is suspected first. `dry_run`: all, or these actions, are told and not
    done. `maintenance`: as in `Rules`, for what is no pipeline's. What was cured `flaps` times within `flap_s` and
    comes back is not cured again. `renew_verify_s`: time that one which still worked has until its restart shows.
    `replicas`: fewest and most processes of each service that may be scaled, `scale_actions` times in `scale_per_s`.
    """

    own: str
    silence_s: float = 2.5
    start_grace_s: float = 15.0
    unheard_s: float = 20.0
    canary_s: float = 1.5
    reconnect_s: float = 8.0
    pause_s: float = 1.0
    verify_s: float = 15.0
    restart_actions: int = 6
    restart_cool_down_s: float = 5.0
    restart_per_s: float = 600.0
    all_restarts: int = 30
    retry_s: float = 60.0
    rollback_verify_s: float = 60.0
    retrain_verify_s: float = 300.0
    quarantine_verify_s: float = 30.0
    replay_verify_s: float = 120.0
    fall_back_verify_s: float = 600.0
    throttle_verify_s: float = 30.0
    restore_verify_s: float = 120.0
    hold_s: float = 600.0
    young_s: float = 300.0
    no_labels_s: float = 20.0
    patience_s: float = 30.0
    renew_verify_s: float = 90.0
    limits: Limits = Limits()
    dry_run: bool | tuple[str, ...] = False
    maintenance: tuple[tuple[int, int], ...] = ()
    flaps: int = 6
    flap_s: float = 3_600.0
    approval: tuple[str, ...] = ()
    approval_s: float = 3_600.0
    replicas: dict[str, tuple[int, int]] = {}
    scale_actions: int = 6
    scale_per_s: float = 600.0
    scale_cool_down_s: float = 20.0
    scale_verify_s: float = 60.0


AnyInput = (Tick | Beat | Again | Reached | Announced | Rules | ModelSeen | RowsSeen | Predicted | Requests | Judged
            | ClientsSeen | Unusable | RunEnded | Figures | Failures | Lines | Called | Alerted | Answered | Approval
            | Leads | AlreadyOpen | Thresholds | Opined | Labelled)
