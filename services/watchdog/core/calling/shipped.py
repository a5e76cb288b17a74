"""What hangs on what as far as it is known before any process has told whom it calls."""

from collections.abc import Mapping
from typing import Final

DEPENDS: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": ("predictor", "broker", "database"),
    "ingest": ("broker", "database"),
    "trainer": ("broker", "database"),
    "predictor": ("broker", "database"),
    "watchdog": ("broker", "database"),
    "actuator": ("broker",),
}
"""What each service needs, until a process of it has told whom it calls. Broker and database need nothing of ours."""

MADE_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "rows": ("ingest", "broker"),
    "answers": ("predictor", "rows"),
    "model": ("trainer", "rows", "answers"),
}
"""What is no process: the services and things that it comes from."""
