"""Twenty seeded streams of rows in which it is known what changes and when; most change, five do not.

Synthetic ones are made here. Real ones draw rows with replacement from data sets that come with river and scikit-learn,
so that nothing but what is said here changes in them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from river import datasets
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

Columns = dict[str, "np.ndarray[Any, np.dtype[Any]]"]
Rng = np.random.Generator

EVENTS = 12_000
WARM_UP = 2_000
"""Events in which nothing changes and no alarm counts: everybody may learn what is usual."""
ONSET = 6_130
AGAIN = ((4_130, 6_130), (8_130, 10_130))


@dataclass(frozen=True, slots=True)
class Stream:
    """Columns of numbers or names, `EVENTS` long. `drifts`: from where to where rows are not as the first ones."""

    name: str
    columns: Columns
    drifts: tuple[tuple[int, int], ...]


def stream(name: str, seed: int) -> Stream:
    """The same for the same seed."""
    place = list(STREAMS).index(name)
    make, drifts = STREAMS[name]
    return Stream(name, make(np.random.default_rng([seed, place])), drifts)


def _after(start: int = ONSET) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    return np.arange(EVENTS) >= start


def _normal(rng: Rng, fields: int = 4) -> Columns:
    return {f"x{place}": rng.normal(size=EVENTS) for place in range(fields)}


def _moved(rng: Rng, by: float) -> Columns:
    columns = _normal(rng)
    columns["x0"] += by * _after()
    return columns


def _gradual(rng: Rng) -> Columns:
    """Ever more rows are of the new kind, all of them after 2,000."""
    columns, place = _normal(rng), np.arange(EVENTS)
    columns["x0"] += 1.5 * (rng.uniform(size=EVENTS) < (place - ONSET) / 2_000)
    return columns


def _incremental(rng: Rng) -> Columns:
    columns, place = _normal(rng), np.arange(EVENTS)
    columns["x0"] += 2.0 * np.clip((place - ONSET) / 4_000, 0, 1)
    return columns


def _recurring(rng: Rng) -> Columns:
    columns, place = _normal(rng), np.arange(EVENTS)
    for begin, end in AGAIN:
        columns["x0"] += 1.5 * ((place >= begin) & (place < end))
    return columns


def _wider(rng: Rng) -> Columns:
    columns = _normal(rng)
    columns["x0"] *= np.where(_after(), 2.0, 1.0)
    return columns


def _correlated(rng: Rng, before: float, after: float) -> Columns:
    """x0 and x1 are normal throughout; only how they go together changes."""
    columns = _normal(rng)
    rho = np.where(_after(), after, before)
    columns["x1"] = rho * columns["x0"] + np.sqrt(1 - rho * rho) * columns["x1"]
    return columns


def _names(rng: Rng) -> Columns:
    before, after = (0.3, 0.3, 0.4), (0.1, 0.6, 0.3)
    kinds = np.array(["blue", "green", "red"])
    drawn = np.where(_after(), rng.choice(3, EVENTS, p=after), rng.choice(3, EVENTS, p=before))
    return {"colour": kinds[drawn], **_normal(rng, 2)}


def _heavy(rng: Rng, by: float) -> Columns:
    columns = {f"x{place}": rng.standard_t(2, size=EVENTS) for place in range(4)}
    columns["x0"] += by * _after()
    return columns


def _seasonal(rng: Rng, by: float) -> Columns:
    columns, wave = _normal(rng), np.sin(2 * np.pi * np.arange(EVENTS) / 500)
    columns["x0"] += wave + by * _after()
    columns["x1"] += wave
    return columns


def _lognormal(rng: Rng) -> Columns:
    return {f"x{place}": rng.lognormal(sigma=1.0, size=EVENTS) for place in range(4)}


def _autocorrelated(rng: Rng) -> Columns:
    """Each value is 0.9 of the one before and new noise."""
    columns = {}
    for name, noise in _normal(rng).items():
        values = np.empty(EVENTS)
        value = 0.0
        for place, one in enumerate(noise):
            value = 0.9 * value + 0.436 * one
            values[place] = value
        columns[name] = values
    return columns


@cache
def _rows(name: str) -> Columns:
    """All rows of a data set, the first fields of it."""
    if name == "segment":
        rows = [row for row, _ in datasets.ImageSegments()]  # type: ignore[no-untyped-call]
        picked = ("region-centroid-row", "vedge-mean", "hedge-mean", "intensity-mean", "saturation-mean", "hue-mean")
        return {field: np.array([float(row[field]) for row in rows]) for field in picked}
    if name == "banana":
        banana = [row for row, _ in datasets.Bananas()]  # type: ignore[no-untyped-call]
        return {str(field): np.array([float(row[field]) for row in banana]) for field in banana[0]}
    loaded = {"cancer": load_breast_cancer, "diabetes": load_diabetes, "wine": load_wine}[name]()
    return {str(field): loaded.data[:, place] for place, field in enumerate(loaded.feature_names[:8])}


def _drawn(name: str, rng: Rng) -> Columns:
    rows = _rows(name)
    picked = rng.integers(len(next(iter(rows.values()))), size=EVENTS)
    return {field: values[picked] for field, values in rows.items()}


def _unit(rng: Rng) -> Columns:
    """One measure of cells is told in another unit, a fifth more."""
    columns = _drawn("cancer", rng)
    columns["mean radius"] = columns["mean radius"] * np.where(_after(), 1.2, 1.0)
    return columns


def _shuffled(name: str, field: str) -> Callable[[Rng], Columns]:
    """One field's values are those of other rows."""
    def make(rng: Rng) -> Columns:
        columns = _drawn(name, rng)
        columns[field] = np.concatenate((columns[field][:ONSET], rng.permutation(columns[field][ONSET:])))
        return columns
    return make


def _selected(name: str, field: str) -> Callable[[Rng], Columns]:
    """Only rows of the upper half of one field come."""
    def make(rng: Rng) -> Columns:
        columns, rows = _drawn(name, rng), _rows(name)
        upper = np.flatnonzero(rows[field] > np.median(rows[field]))
        picked = rng.choice(upper, size=EVENTS)
        return {one: np.where(_after(), rows[one][picked], values) for one, values in columns.items()}
    return make


ONCE = ((ONSET, EVENTS),)
STREAMS: Mapping[str, tuple[Callable[[Rng], Columns], tuple[tuple[int, int], ...]]] = {
    "mean by 1 sd": (lambda rng: _moved(rng, 1.0), ONCE),
    "mean by 0.5 sd": (lambda rng: _moved(rng, 0.5), ONCE),
    "gradual": (_gradual, ONCE),
    "incremental": (_incremental, ONCE),
    "recurring": (_recurring, AGAIN),
    "variance only": (_wider, ONCE),
    "correlation appears": (lambda rng: _correlated(rng, 0.0, 0.7), ONCE),
    "correlation turns": (lambda rng: _correlated(rng, 0.6, -0.6), ONCE),
    "names": (_names, ONCE),
    "heavy tails, moved": (lambda rng: _heavy(rng, 2.0), ONCE),
    "seasonal, moved": (lambda rng: _seasonal(rng, 1.5), ONCE),
    "seasonal": (lambda rng: _seasonal(rng, 0.0), ()),
    "normal": (_normal, ()),
    "lognormal": (_lognormal, ()),
    "autocorrelated": (_autocorrelated, ()),
    "cancer, unit": (_unit, ONCE),
    "segment, shuffled": (_shuffled("segment", "intensity-mean"), ONCE),
    "banana, selected": (_selected("banana", "1"), ONCE),
    "diabetes, selected": (_selected("diabetes", "bmi"), ONCE),
    "wine": (lambda rng: _drawn("wine", rng), ()),
}
