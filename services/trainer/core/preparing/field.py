"""A field as a run takes it: its type, and what stands in for an absent value."""

from lepton.contracts.pipeline_blocks import Block, Categories, FieldType, MissingPolicy


class PlannedField(Block):
    name: str
    type: FieldType
    missing: MissingPolicy
    categories: Categories | None = None
    coded: bool = False
    """Its values are numbered, however many there are, for the network to look each up."""
