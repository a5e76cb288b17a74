"""What must be kept of the events in a pane to answer the aggregates, row by row and merged across panes."""

from collections.abc import Iterable, Mapping

import numpy as np

from services.ingest.core.windows.runs import NEVER, Array, Bools, Floats, Ints, Runs

Partial = dict[str, Array]
"""Columns of equal length: `n` values (or events), `sum`; `shift`, `s1`, `s2`: a value of the pane, and sums of the
differences from it and of their squares; `min`, `max`; `last` and its time `last_t`."""

_NEEDED = {"count": ("n",), "sum": ("n", "sum"), "mean": ("n", "sum"), "std": ("n", "shift", "s1", "s2"),
           "min": ("min",), "max": ("max",), "last": ("last", "last_t")}
WHOLE = frozenset({"n", "last_t", "start"})
"""Columns of 64-bit integers; the others are floats."""
EMPTY: dict[str, float | int] = {"n": 0, "sum": 0.0, "shift": 0.0, "s1": 0.0, "s2": 0.0, "min": np.nan, "max": np.nan,
                                 "last": np.nan, "last_t": NEVER, "start": np.iinfo(np.int64).max}


def columns_for(aggregates: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for one in aggregates for column in _NEEDED.get(one, ())))


def kind_of(column: str) -> "np.dtype[np.int64] | np.dtype[np.float64]":
    return np.dtype(np.int64) if column in WHOLE else np.dtype(np.float64)


def empty(columns: Iterable[str], size: int) -> Partial:
    return {name: np.full(size, EMPTY[name], kind_of(name)) for name in columns}


def running(runs: Runs, begun: Mapping[str, Array], times: Ints, values: Floats, counts: Bools) -> Partial:
    """The pane of each row with the events up to it, itself included. `begun`: what each group had before;
    `counts`: rows that have a value; the `values` of the others are NaN."""
    found: Partial = {}
    if "n" in begun:
        found["n"] = runs.accumulate(np.add, counts.astype(np.int64), begun["n"])
    if "sum" in begun:
        found["sum"] = runs.accumulate(np.add, np.where(counts, values, 0.0), begun["sum"])
    if "s1" in begun:
        found |= _spread(runs, begun, values, counts)
    if "min" in begun:
        found["min"] = runs.accumulate(np.fmin, values, begun["min"])
    if "max" in begun:
        found["max"] = runs.accumulate(np.fmax, values, begun["max"])
    if "last" in begun:
        found |= _last(runs, begun, np.where(counts, times, NEVER), values)
    if "start" in begun:
        found["start"] = runs.accumulate(np.minimum, times, begun["start"])
    return found


def _spread(runs: Runs, begun: Mapping[str, Array], values: Floats, counts: Bools) -> Partial:
    # Differences are taken from the first value of the pane. Being one of the values, it cannot lie far from the mean
    # in units of the deviation, so that the subtraction in `_squares` loses a factor of n at worst, however large the
    # values are (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance").
    first = np.minimum.reduceat(np.where(counts, np.arange(runs.rows), runs.rows), runs.starts)
    own = np.where(first <= runs.last, values[np.minimum(first, runs.rows - 1)], 0.0)
    shift = np.where(begun["n"] > 0, begun["shift"], own)
    apart = np.where(counts, values - shift[runs.of_row], 0.0)
    return {"shift": shift[runs.of_row], "s1": runs.accumulate(np.add, apart, begun["s1"]),
            "s2": runs.accumulate(np.add, apart * apart, begun["s2"])}


def _last(runs: Runs, begun: Mapping[str, Array], times: Ints, values: Floats) -> Partial:
    newest = runs.accumulate(np.maximum, times, begun["last_t"])
    # Of two at the same time the one accepted later is the last.
    mine = np.where((times == newest) & (times != NEVER), np.arange(runs.rows), -1)
    at = runs.accumulate(np.maximum, mine, np.full(len(runs.starts), -1, np.int64))
    return {"last_t": newest, "last": np.where(at >= 0, values[at], begun["last"][runs.of_row])}


def merged(parts: Partial, starts: Ints) -> Partial:
    """Panes of one window as one; `starts` is the first pane of each window, panes rise within it."""
    found: Partial = {}
    if "n" in parts:
        found["n"] = np.add.reduceat(parts["n"], starts)
    if "sum" in parts:
        found["sum"] = np.add.reduceat(parts["sum"], starts)
    if "s1" in parts:
        found["squares"] = _merged_squares(parts, found["n"], starts)
    if "min" in parts:
        found["min"] = np.fmin.reduceat(parts["min"], starts)
    if "max" in parts:
        found["max"] = np.fmax.reduceat(parts["max"], starts)
    if "last" in parts:
        known = parts["last_t"] != NEVER
        at = np.maximum.reduceat(np.where(known, np.arange(len(known)), -1), starts)
        found["last"] = np.where(at >= 0, parts["last"][at], np.nan)
    return found


def _merged_squares(parts: Partial, total: Ints, starts: Ints) -> Floats:
    """Chan's rule: the squares within the panes, and those of the panes' means around the mean of all."""
    some = np.maximum(parts["n"], 1)
    own = parts["shift"] + parts["s1"] / some
    # Relative to one of the panes' means, for the same reason as in a pane.
    first = np.minimum.reduceat(np.where(parts["n"] > 0, np.arange(len(own)), len(own) - 1), starts)
    near = np.repeat(own[first], np.diff(starts, append=len(own)))
    weight = parts["n"].astype(np.float64)
    weight_of = np.maximum(total, 1)
    mean = np.add.reduceat(weight * (own - near), starts) / weight_of
    apart = own - near - np.repeat(mean, np.diff(starts, append=len(own)))
    return np.asarray(np.add.reduceat(_squares(parts) + weight * apart * apart, starts))


def _squares(partial: Partial) -> Floats:
    """Sum of the squared differences from the mean."""
    some = np.maximum(partial["n"], 1)
    return np.maximum(partial["s2"] - partial["s1"] * partial["s1"] / some, 0.0)


def answers(partial: Partial, aggregates: Iterable[str]) -> dict[str, Floats]:
    """Aggregates as floats, NaN where there is none. `std` is that of a sample (divided by n - 1)."""
    found: dict[str, Floats] = {}
    for one in aggregates:
        if one == "count":
            found[one] = partial["n"].astype(np.float64)
        elif one == "sum":
            found[one] = np.where(partial["n"] > 0, partial["sum"], np.nan)
        elif one == "mean":
            found[one] = np.where(partial["n"] > 0, partial["sum"] / np.maximum(partial["n"], 1), np.nan)
        elif one == "std":
            squares = partial["squares"] if "squares" in partial else _squares(partial)
            found[one] = np.where(partial["n"] > 1, np.sqrt(squares / np.maximum(partial["n"] - 1, 1)), np.nan)
        elif one in ("min", "max", "last"):
            found[one] = partial[one]
    return found
