"""How events and labels look while a fault of data lasts; pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from zlib import crc32

from deploy.chaos.plan import Spoil

Event = dict[str, Any]

LATE: Final = timedelta(hours=1)
COPIES: Final = 2
"""More of an event, where duplicates are asked for."""


def spoil(fault: Spoil, event: Mapping[str, Any], progress: float = 1.0) -> list[Event]:
    """What is sent in an event's place; its source is not in it. `progress`: the part of the fault's time that is over.
    """
    body = dict(event)
    match fault.do:
        case "missing":
            body.pop(fault.field, None)
        case "scale":
            body[fault.field] = float(body[fault.field]) * fault.by
        case "constant":
            body[fault.field] = fault.value
        case "drift":
            # By its id, so that of the same events always the same drift.
            if crc32(str(body["event_id"]).encode()) < progress * 2**32:
                body[fault.field] = fault.value
        case "rename":
            body[f"{fault.field}_v2"] = body.pop(fault.field, None)
        case "poison":
            body[fault.field] = "n/a"
        case "late":
            body["occurred_at"] = (datetime.fromisoformat(body["occurred_at"]) - LATE).isoformat()
        case "duplicates":
            return [body] * (1 + COPIES)
    return [body]


def told(fault: Spoil, label: Any) -> Any:
    """The label that is sent; None for none."""
    if fault.do == "no_labels":
        return None
    return not label if fault.do == "flip" and isinstance(label, bool) else label


def rate(fault: Spoil) -> float:
    """How many times the usual number of events is sent."""
    return {"surge": fault.by, "silence": 0.0}.get(fault.do, 1.0)


def is_refused(fault: Spoil) -> bool:
    """Whether what is spoilt need not become features: it is for the dead letters, or the platform may choose."""
    return fault.do in ("missing", "scale", "rename", "poison", "late")
