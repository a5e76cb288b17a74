"""How the prepared matrix is laid out: which columns come from which field."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Columns [start, start + width) of the prepared matrix that come from one field.

    `kind` says what they are (`number`, `choice`, ...); `shape` how they are folded, () for a plain number; `size`
    how many codes there are where columns hold codes (`tokens`).
    """

    field: str
    kind: str
    start: int
    width: int
    shape: tuple[int, ...] = ()
    size: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of the prepared matrix [rows, width], in order and without gaps."""

    spans: tuple[Span, ...]

    @property
    def width(self) -> int:
        return sum(span.width for span in self.spans)
