"""A field as a run takes it: its type, its size, and what stands in for an absent value."""

from lepton.contracts.pipeline_blocks import Block, Categories, FieldType, MissingPolicy


class PlannedField(Block):
    name: str
    type: FieldType
    missing: MissingPolicy
    categories: Categories | None = None
    tail: tuple[int, ...] = ()
    """Shape of one value: of a vector how many numbers it has, of a sequence how many it may have."""
    coded: bool = False
    """Its values are numbered, however many there are, for the network to look each up."""
