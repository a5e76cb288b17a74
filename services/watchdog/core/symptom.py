"""What can be wrong: the kinds of symptoms, and one that was seen."""

from dataclasses import dataclass
from typing import Final

SILENCE, QUALITY_LOSS, BROKEN_DATA = "silence", "quality_loss", "broken_data"
LINE_STOPPED, TRAINING_FAILURE = "line_stopped", "training_failure"
UNUSABLE, SLOW_MODEL = "unusable_model", "slow_model"
BROKEN_FIELD, SCHEMA_CHANGE = "broken_field", "schema_change"
CPU, MEMORY, DISK = "cpu", "memory", "disk"
LEAK, FILES, CRASH_LOOP = "leak", "files", "crash_loop"
LAG, QUEUE, FAILURES, DEAD_LETTERS = "lag", "queue", "failures", "dead_letters"
ERRORS = "errors"
CERTIFICATE, GPU = "certificate", "gpu"
BAD_LABELS = "bad_labels"
UNUSUAL_ROWS, SURGE, NO_ROWS, NO_LABELS = "unusual_rows", "surge", "no_rows", "no_labels"
DRIFT, ANSWER_DRIFT = "drift", "answer_drift"
AVAILABILITY, LATENCY = "availability", "latency"
OVERLOAD, LOAD_AHEAD, TOO_FEW, IDLE = "overload", "load_ahead", "too_few", "idle"
OUTSIDE = "outside_alert"
CUT_OFF, SLOW_DEPENDENCY = "cut_off", "slow_dependency"
ESTIMATED_LOSS = "estimated_loss"
LOST_FILE, LOST_STATE = "lost_file", "lost_state"
POOR_FEEDBACK = "poor_feedback"

BUS: Final = "dependency:broker"

OF_HOSTS: Final = frozenset({CPU, MEMORY, DISK, GPU})
OF_PROCESSES: Final = frozenset({LEAK, FILES, CRASH_LOOP, QUEUE, FAILURES, DEAD_LETTERS, ERRORS})
OF_ROWS: Final = frozenset({UNUSUAL_ROWS, SURGE, NO_ROWS, NO_LABELS, DRIFT, ANSWER_DRIFT})
TOO_MUCH: Final = frozenset({OVERLOAD, LAG, QUEUE})
"""Kinds that say: there is more to do than is done."""
OF_LOAD: Final = TOO_MUCH | {SURGE, LOAD_AHEAD, TOO_FEW}
"""Those, and kinds that say that it may come to that."""
STANDING: Final = OF_HOSTS | OF_PROCESSES | OF_ROWS | OF_LOAD | {
    AVAILABILITY, LATENCY, CERTIFICATE, OUTSIDE, SLOW_DEPENDENCY, LOST_FILE, LOST_STATE}
"""Kinds that are well again once their signal is quiet; their detectors themselves hold on for a while."""

OF_FIELDS: Final = frozenset({BROKEN_FIELD, SCHEMA_CHANGE})
"""Kinds that blame one field; the second knows under which other name its values come."""

TOLD_AT_ONCE: Final = frozenset({LINE_STOPPED, TRAINING_FAILURE, OUTSIDE})
"""Kinds of which a person is told when they are first seen."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """Something that is wrong now. `about`: instance, host, model, topic, pipeline or service; `source` for broken data
    only, `field` for a broken or renamed one, `needed` where rows cannot do without it. `service`: of which more or
    fewer processes would help. `command_id`: of the training command whose run failed."""

    kind: str
    about: str
    detail: str
    pipeline: str = ""
    source: str = ""
    boot_id: str = ""
    version: int = 0
    service: str = ""
    field: str = ""
    needed: bool = False
    command_id: str = ""
    began: float | None = None
    """Monotonic time of the first sign; None where the detector does not know."""
