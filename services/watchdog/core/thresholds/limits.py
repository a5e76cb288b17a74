"""From where on something is a symptom: what a Pipeline says of it, what the installation says, and the defaults."""

import msgspec


class Ladders(msgspec.Struct, frozen=True):
    """A Pipeline's `heal.ladders`: actions by symptom, in the order they are tried."""

    quality_loss: tuple[str, ...] = ("roll_back", "retrain", "retrain", "tune")
    drift: tuple[str, ...] = ("retrain",)
    broken_data: tuple[str, ...] = ("quarantine", "pause")
    availability: tuple[str, ...] = ("fall_back",)
    latency: tuple[str, ...] = ("fall_back",)
    overload: tuple[str, ...] = ("throttle", "scale_out", "scale_out", "shed", "shed")
    lag: tuple[str, ...] = ("scale_out", "scale_out")
    surge: tuple[str, ...] = ("scale_out",)
    load_ahead: tuple[str, ...] = ("scale_out",)
    lost_file: tuple[str, ...] = ("restore_backup", "roll_back", "retrain")
    queue: tuple[str, ...] = ("scale_out", "scale_out")
    """No Pipeline says anything of it: the rows of all stand in one line."""
    estimated_loss: tuple[str, ...] = ()
    broken_field: tuple[str, ...] = ("quarantine", "pause")
    line_stopped: tuple[str, ...] = ()
    poor_feedback: tuple[str, ...] = ("roll_back",)
    training_failure: tuple[str, ...] = ("tune",)


class QualityRule(msgspec.Struct, frozen=True):
    """A Pipeline's `watch.quality`."""

    metric: str
    window: int
    min_labels: int
    drop: float


class FeedbackRule(msgspec.Struct, frozen=True):
    """A Pipeline's `watch.feedback`."""

    rows: int = 50
    windows: int = 2
    rise: float = 0.15
    chance: float = 0.001
    authors: int = 2


class DriftRule(msgspec.Struct, frozen=True):
    """A Pipeline's `watch.drift`."""

    rows: int = 200
    reference_rows: int = 2_000
    reference_s: float = 3_600.0
    psi: float = 0.25
    chance: float = 0.001
    windows: int = 3
    then: str = "notify"


class SharesRule(msgspec.Struct, frozen=True):
    """A Pipeline's `watch.shares`."""

    missing: float = 0.2
    invalid: float = 0.2
    rejected: float = 0.2
    duplicates: float = 0.3
    late: float = 0.3


class VolumeRule(msgspec.Struct, frozen=True):
    """A Pipeline's `watch.volume`."""

    low: float = 0.1
    high: float = 5.0
    over_s: float = 60.0
    learn_s: float = 600.0


class SloRule(msgspec.Struct, frozen=True):
    """A Pipeline's `watch.slo`; None: nothing is promised of it."""

    availability: float | None = None
    latency_ms: float | None = None
    latency_share: float = 0.99


class BrokenRule(msgspec.Struct, frozen=True):
    """What a Pipeline says of fields and data that break as a whole, and how long either is kept out.

    `fields`: those that are judged, by whether rows can do without; `meant` changes with what the values of each mean.
    """

    fields: dict[str, bool] = {}
    meant: dict[str, str] = {}
    field_share: float = 0.9
    turned_away: float = 0.5
    after_s: float = 10.0
    quarantined_fields: int = 1
    restore_after_s: float = 30.0
    resume_after_s: float = 120.0
    resume_longest_s: float = 3_600.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where on load is a symptom. Shares are of all there is (`gpu`: of its memory); `..._s`: for how long, or
    within which time.

    `lag` records wait and ever more of them do; `queue` rows wait in a predictor; `failures`, `dead_letters` within
    `failures_s`, `crashes` within `crashes_s`; `errors` lines of a pattern in a minute, of a process that was
    listened to for `errors_learn_s`. `database`: seconds that its answers take; `unreached`: that a gateway's calls to
    a predictor have had none. `..._ahead_s`: also when the slope leads there within this time (of lag and queue: to
    add a process, where one may be added). `refused`: share of a model's requests; `client_share`: of the growth
    of what is asked, by one client, once what is usual was listened to for `client_learn_s`. `idle_s`: how long a
    service must have been able to do with one process fewer before it does. `certificate_days`: fewer are left.
    """

    cpu: float = 0.9
    cpu_s: float = 300.0
    memory: float = 0.8
    memory_s: float = 60.0
    leak_ahead_s: float = 1800.0
    disk: float = 0.9
    disk_s: float = 60.0
    disk_ahead_s: float = 3600.0
    gpu: float = 0.95
    gpu_s: float = 300.0
    certificate_days: float = 21.0
    files: float = 0.8
    files_s: float = 15.0
    lag: float = 10_000.0
    lag_s: float = 60.0
    queue: float = 2_000.0
    queue_s: float = 30.0
    load_ahead_s: float = 120.0
    refused: float = 0.05
    refused_s: float = 10.0
    client_share: float = 0.8
    client_learn_s: float = 60.0
    idle_s: float = 600.0
    failures: int = 60
    dead_letters: int = 600
    failures_s: float = 60.0
    errors: int = 10
    errors_learn_s: float = 600.0
    crashes: int = 5
    crashes_s: float = 600.0
    database: float = 2.0
    database_s: float = 2.0
    unreached: float = 5.0
