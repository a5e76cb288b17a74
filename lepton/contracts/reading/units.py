"""Units of measure: which names there are, and how a value in one becomes a value in another (by pint's registry)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pint

MAX_UNIT_CHARS = 64
# Names, small powers, products and quotients. Pint also works out numbers, and `9**9**9` would never end.
_NAME = r"[A-Za-zµμΩΩ°%Å][A-Za-z0-9_µμ°]*(?:(?:\^|\*\*)-?[1-9])?"
_UNIT = re.compile(rf"(?:1/)?{_NAME}(?: ?[*/] ?{_NAME})*")
# Up to here a float holds every whole number.
_EXACT = 2**53
# Pint's own errors are among these; it is imported where it is needed, so they cannot be named here.
_PINT_ERRORS = (TypeError, ValueError, AttributeError, ArithmeticError, LookupError)


class UnfitUnit(ValueError):
    """A unit nothing can be converted from or to; what reads a Pipeline says where it stands."""

    def __init__(self, message: str, *, field: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Conversion:
    """`(value + shift) * times / over`. Apart they are exact for most units, so that 212 degF is 100 degC."""

    shift: float
    times: float
    over: float

    def __call__(self, value: float) -> float:
        """Infinite where a double does not hold it."""
        return (value + self.shift) * self.times / self.over


def conversions(unit: str, accepted: Sequence[str]) -> Mapping[str, Conversion]:
    """How to bring a value in each of `accepted` into `unit`. Raises UnfitUnit, `field` naming the unit it is about."""
    return {one: conversion(one, unit) for one in accepted}


@lru_cache(maxsize=4096)
def conversion(source: str, target: str) -> Conversion:
    """Raises UnfitUnit: not a unit, of another dimension, or one that is no line (decibels)."""
    registry = _registry()
    _known(target)
    _known(source)
    try:
        zero, one, two = (Fraction(registry.Quantity(Fraction(value), source).to(target).magnitude)
                          for value in (0, 1, 2))
    except _PINT_ERRORS as error:
        raise UnfitUnit(f"`{source}` does not measure what `{target}` does", field=source,
                        remedy="name a unit of the same dimension, and no logarithm") from error
    factor = one - zero
    if two - one != factor or factor == 0:
        raise UnfitUnit(f"`{source}` cannot be converted to `{target}` by a factor and an offset", field=source,
                        remedy="name a unit of the same dimension that is no logarithm")
    shift = float(zero / factor)
    if max(abs(factor.numerator), factor.denominator) > _EXACT:
        return Conversion(shift, float(factor), 1.0)
    return Conversion(shift, float(factor.numerator), float(factor.denominator))


def _known(unit: str) -> None:
    if len(unit) > MAX_UNIT_CHARS or not _UNIT.fullmatch(unit):
        raise UnfitUnit(f"`{unit[:MAX_UNIT_CHARS]}` cannot be read as a unit", field=unit,
                        remedy="write one like degC, km/h or kg*m^2")
    try:
        _registry().parse_units(unit.removeprefix("1/"))
    except _PINT_ERRORS as error:
        raise UnfitUnit(f"`{unit}` is no unit that is known", field=unit,
                        remedy="write one like degC, km/h or kg*m^2") from error


@lru_cache(maxsize=1)
def _registry() -> "pint.UnitRegistry[Fraction]":
    """Made on first use (half a second): most pipelines convert nothing. Fractions keep factors exact."""
    import pint

    return pint.UnitRegistry(non_int_type=Fraction)
