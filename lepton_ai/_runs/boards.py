"""How a run went as an event file of TensorBoard: its losses and rates by epoch, and what it reached in the end."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lepton.errors import Missing
from lepton_ai._files.writing import writes
from lepton_ai._models import Point, Run

# What a reader tells these files by, and the first record it wants to see.
_NAME: Final = "events.out.tfevents.lepton"
_VERSION: Final = "brain.Event:2"
_REACHED: Final = ("succeeded", "rejected")
_GROUPS: Final = {"training_loss": "loss/training", "validation_loss": "loss/validation"}

# Wall time in seconds, step, and figures by tag.
_Event = tuple[float, int, Mapping[str, float]]


def write(run: Run, course: Sequence[Point], to: Path) -> Path:
    """The folder `to`/MODEL/RUN, whose file holds the course so far. Raises Missing, or Refused by the disk.

    The same course gives the same bytes; of a longer one only the rest is appended, so that a board that reads the
    file goes on.
    """
    data = _file(tuple(_events(run, course)))
    folder = to / run.model / run.run_id
    with writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _NAME
        kept = path.read_bytes() if path.exists() else b""
        with path.open("ab" if data.startswith(kept) else "wb") as file:
            file.write(data[len(kept):] if data.startswith(kept) else data)
    return folder


def _events(run: Run, course: Sequence[Point]) -> Iterator[_Event]:
    """Epochs are steps; the trials of a search, which come before the first epoch, are counted."""
    trials = 0
    for point in course:
        trials += not point.epoch
        named = {_GROUPS.get(name, name): value for name, value in point.figures.items()} if point.epoch else {
            f"search/{name}": value for name, value in point.figures.items()}
        yield point.at.timestamp(), point.epoch or trials, named
    if course and run.state in _REACHED:
        yield course[-1].at.timestamp(), course[-1].epoch, {
            f"held_out/{name}": value for name, value in run.metrics.items()}


def _file(events: Sequence[_Event]) -> bytes:
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
    except ImportError as error:
        raise Missing("tensorboard is not installed, whose files these are",
                      remedy="pip install 'lepton-ai[tensorboard]'") from error
    data = io.BytesIO()
    file = RecordWriter(data)
    file.write(Event(wall_time=events[0][0] if events else 0.0, file_version=_VERSION).SerializeToString())
    for at_s, step, figures in events:
        values = [Summary.Value(tag=tag, simple_value=figures[tag]) for tag in sorted(figures)]
        if values:
            file.write(Event(wall_time=at_s, step=step, summary=Summary(value=values)).SerializeToString())
    return data.getvalue()
