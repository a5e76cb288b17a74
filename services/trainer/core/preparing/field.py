"""A field as a run takes it: its type, its size, and what stands in for an absent value."""

from collections.abc import Iterable
from typing import Protocol

from lepton.contracts.pipeline_blocks import Block, Categories, FieldType, MissingPolicy


class _Pictured(Protocol):
    @property
    def image(self) -> tuple[int, ...] | None: ...


def picture_of(fields: Iterable[_Pictured]) -> tuple[int, ...] | None:
    """The size that every field with pixels says of itself; None where none does, or they differ."""
    sizes = {one.image for one in fields if one.image}
    return sizes.pop() if len(sizes) == 1 else None


class PlannedField(Block):
    name: str
    type: FieldType
    missing: MissingPolicy
    categories: Categories | None = None
    tail: tuple[int, ...] = ()
    """Shape of one value: of a vector how many numbers it has, of a sequence how many it may have."""
    image: tuple[int, ...] = ()
    """Height, width and colours of a vector that may come as a PNG or JPEG."""
    coded: bool = False
    """Its values are numbered, however many there are, for the network to look each up."""
