"""What is known beforehand: how likely each class of cause is behind each symptom, and where it shows."""

from collections.abc import Mapping
from typing import Final

from services.watchdog.core import symptom as kinds

DATA, PARAMETERS, RESOURCES = "data", "parameters", "resources"
SURGE, PROCESS, DEPENDENCY = "surge", "process", "dependency"

LIKELY: Final[Mapping[str, Mapping[str, float]]] = {
    kinds.SILENCE: {PROCESS: 0.9, DEPENDENCY: 0.1, RESOURCES: 0.1},
    kinds.CUT_OFF: {DEPENDENCY: 0.9, PROCESS: 0.2},
    kinds.SLOW_DEPENDENCY: {DEPENDENCY: 0.9, RESOURCES: 0.3},
    kinds.QUALITY_LOSS: {PARAMETERS: 0.6, DATA: 0.4},
    kinds.ESTIMATED_LOSS: {DATA: 0.6, PARAMETERS: 0.3},
    kinds.POOR_FEEDBACK: {PARAMETERS: 0.6, DATA: 0.3},
    kinds.UNUSABLE: {PARAMETERS: 0.9, PROCESS: 0.1},
    kinds.SLOW_MODEL: {PARAMETERS: 0.7, RESOURCES: 0.2, SURGE: 0.1},
    kinds.BROKEN_DATA: {DATA: 0.95},
    kinds.BROKEN_FIELD: {DATA: 0.95},
    kinds.SCHEMA_CHANGE: {DATA: 0.98},
    kinds.UNUSUAL_ROWS: {DATA: 0.9},
    kinds.DRIFT: {DATA: 0.9},
    kinds.ANSWER_DRIFT: {PARAMETERS: 0.5, DATA: 0.5},
    kinds.NO_ROWS: {DATA: 0.7, DEPENDENCY: 0.3, PROCESS: 0.3},
    kinds.BAD_LABELS: {DATA: 0.8, PARAMETERS: 0.2},
    kinds.NO_LABELS: {DATA: 0.8, DEPENDENCY: 0.2, PROCESS: 0.2},
    kinds.SURGE: {SURGE: 0.95},
    kinds.LINE_STOPPED: {DATA: 0.8, PROCESS: 0.2},
    kinds.DEAD_LETTERS: {DATA: 0.8, PARAMETERS: 0.1, PROCESS: 0.1},
    kinds.TRAINING_FAILURE: {PARAMETERS: 0.6, DATA: 0.4, RESOURCES: 0.3},
    kinds.CPU: {RESOURCES: 0.6, SURGE: 0.4, PROCESS: 0.2},
    kinds.MEMORY: {RESOURCES: 0.6, PROCESS: 0.4, SURGE: 0.2},
    kinds.DISK: {RESOURCES: 0.9},
    kinds.GPU: {RESOURCES: 0.8, SURGE: 0.2},
    kinds.CERTIFICATE: {DEPENDENCY: 0.95},
    kinds.LEAK: {PROCESS: 0.9, SURGE: 0.1},
    kinds.FILES: {PROCESS: 0.7, SURGE: 0.3},
    kinds.CRASH_LOOP: {PROCESS: 0.8, RESOURCES: 0.3, DATA: 0.2},
    kinds.LAG: {SURGE: 0.5, RESOURCES: 0.3, PROCESS: 0.3},
    kinds.QUEUE: {SURGE: 0.6, RESOURCES: 0.3, PARAMETERS: 0.2},
    kinds.OVERLOAD: {SURGE: 0.7, RESOURCES: 0.3, PARAMETERS: 0.2},
    kinds.LOAD_AHEAD: {SURGE: 0.5, RESOURCES: 0.3, PROCESS: 0.3},
    kinds.TOO_FEW: {PROCESS: 0.5, RESOURCES: 0.4},
    kinds.IDLE: {RESOURCES: 0.9},
    kinds.FAILURES: {PROCESS: 0.6, DEPENDENCY: 0.4},
    kinds.ERRORS: {PROCESS: 0.5, DEPENDENCY: 0.4, DATA: 0.2},
    kinds.AVAILABILITY: {PROCESS: 0.4, SURGE: 0.4, DEPENDENCY: 0.3, PARAMETERS: 0.2},
    kinds.LOST_FILE: {DEPENDENCY: 0.9, RESOURCES: 0.2},
    kinds.LOST_STATE: {DEPENDENCY: 0.95, RESOURCES: 0.2},
    kinds.OUTSIDE: {},
    kinds.LATENCY: {SURGE: 0.5, RESOURCES: 0.4, PARAMETERS: 0.3},
}
"""How likely a symptom of a kind is brought about by a cause of a class, each by itself; what is left is unknown."""

PART_OF: Final[Mapping[str, str]] = {
    kinds.SLOW_DEPENDENCY: "database", kinds.CUT_OFF: "broker",
    kinds.LOST_FILE: "database", kinds.LOST_STATE: "database",
    kinds.BROKEN_DATA: "rows", kinds.BROKEN_FIELD: "rows", kinds.SCHEMA_CHANGE: "rows",
    kinds.UNUSUAL_ROWS: "rows", kinds.DRIFT: "rows", kinds.NO_ROWS: "rows",
    kinds.NO_LABELS: "rows", kinds.BAD_LABELS: "rows",
    kinds.SURGE: "rows", kinds.LINE_STOPPED: "rows", kinds.ANSWER_DRIFT: "answers", kinds.AVAILABILITY: "answers",
    kinds.LATENCY: "answers", kinds.QUEUE: "answers",
    kinds.OVERLOAD: "answers", kinds.QUALITY_LOSS: "model", kinds.TRAINING_FAILURE: "model",
    kinds.ESTIMATED_LOSS: "model", kinds.UNUSABLE: "model", kinds.SLOW_MODEL: "model",
    kinds.POOR_FEEDBACK: "model",
}
"""Which part a symptom shows in, where its kind says it; others show in the service of their process."""
