"""Tells whether two sets of things are the same, in whatever order they come."""

import hashlib

_SPACE = 2**256


class Tally:
    """How many there are, and the sum of their SHA-256 modulo 2^256: against mistakes, not against forgers."""

    def __init__(self, items: int = 0, text: str = "0") -> None:
        self.items = items
        self._sum = int(text, 16)

    def add(self, data: bytes) -> None:
        self.items += 1
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(data).digest(), "big")) % _SPACE

    def __add__(self, other: "Tally") -> "Tally":
        both = Tally(self.items + other.items)
        both._sum = (self._sum + other._sum) % _SPACE
        return both

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and (self.items, self._sum) == (other.items, other._sum)

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def text(self) -> str:
        return f"{self._sum:064x}"
