"""How 64 bits are spread well over 64 bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""

from typing import Any

import numpy as np

Bits = np.ndarray[Any, np.dtype[np.uint64]]

_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST = 31
_MASK = 2**64 - 1


def mixed(values: Bits) -> Bits:
    """The values, changed in place."""
    for shift, factor in _STEPS:
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(_LAST)
    return values


def mixed_alone(value: int) -> int:
    """The same of one number."""
    for shift, factor in _STEPS:
        value = (value ^ value >> shift) * factor & _MASK
    return value ^ value >> _LAST
