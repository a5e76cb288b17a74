"""What a search may try for fields that no transform is declared for, as data."""

from dataclasses import dataclass

from lepton.contracts.modelling.families import SHAPED
from lepton.contracts.modelling.transforms import Transform

Names = tuple[str, ...]
"""Of entries, at most one a type of field; () for fields that become columns as they do by themselves."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What may be tried for all fields of a type together. `name` is of no other entry."""

    name: str
    transforms: tuple[Transform, ...]


@dataclass(frozen=True, slots=True)
class Menu:
    """`kinds` has the entries for numbers, for categories and for texts, as far as there are any."""

    kinds: tuple[tuple[Entry, ...], ...] = ()

    def of(self, family: str) -> tuple[tuple[Entry, ...], ...]:
        """A family that looks along its fields reads them by itself."""
        return () if family in SHAPED else self.kinds

    def transforms(self, names: Names) -> tuple[Transform, ...]:
        return tuple(transform for entries in self.kinds for one in entries if one.name in names
                     for transform in one.transforms)


PLAIN = Menu()
