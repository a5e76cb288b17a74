"""How a run went, out of what its process told: a progress file as points, not too many of them."""

import json
import math
from typing import Any

from lepton.contracts.pb.training_pb2 import CoursePoint, TrainingCourse

# As much as a picture shows; beyond it every second point goes, again and again.
MAX_POINTS = 1000
_NO_FIGURES = frozenset({"epoch", "epochs", "stage", "at"})


def course_of(lines: bytes) -> TrainingCourse:
    """The points of a progress file: epochs once each, as they were told last, and what was told between them."""
    points: list[CoursePoint] = []
    for line in lines.splitlines():
        told = _told(line)
        if told is None:
            continue
        point = _point(told)
        # A process that was killed before its checkpoint tells its last epochs again.
        while points and point.epoch and points[-1].epoch >= point.epoch:
            points.pop()
        points.append(point)
    return TrainingCourse(points=_thinned(points))


def latest(lines: bytes) -> dict[str, Any] | None:
    """What a progress file says last; None while it says nothing."""
    return next((told for line in reversed(lines.splitlines()) if (told := _told(line)) is not None), None)


def _thinned(points: list[CoursePoint]) -> list[CoursePoint]:
    """The first, the last, and every n-th between, n a power of two."""
    step = 1
    while len(points) / step > MAX_POINTS:
        step *= 2
    return points[:-1:step] + points[-1:]


def _point(told: dict[str, Any]) -> CoursePoint:
    point = CoursePoint(epoch=told["epoch"], stage=told.get("stage", ""), figures={
        name: value for name, value in told.items() if name not in _NO_FIGURES and math.isfinite(value)})
    point.at.FromNanoseconds(int(told.get("at", 0.0) * 1e9))
    return point


def _told(line: bytes) -> dict[str, Any] | None:
    """None for half a line, which a full disk can leave amid the file."""
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return told
