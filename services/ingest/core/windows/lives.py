"""Whose rows a batch holds: rows brought together by entity, and where an entity begins anew after a long silence."""

from dataclasses import dataclass
from itertools import repeat

import numpy as np

from services.ingest.core.windows.blocks import Entities
from services.ingest.core.windows.cells import Rows
from services.ingest.core.windows.runs import NEVER, Array, Bools, Ints, Runs

# A single row moves the watermark by at most this part of what is remembered: one event from far ahead ages nobody.
_STEPS = 8


def watermarks(times: Ints, before: int, span_us: int) -> Ints:
    """The watermark with each row: the highest event time, approached by bounded steps. NEVER before: none yet."""
    step = max(1, span_us // _STEPS)
    mark = before
    marks = []
    for time in times.tolist():
        if time > mark:
            mark = time if mark == NEVER or time - mark <= step else mark + step
        marks.append(mark)
    return np.array(marks, np.int64)


@dataclass(frozen=True, slots=True)
class Lives:
    """A life is an entity for as long as its silences stay within what is remembered. Rows are in `order`."""

    order: Ints
    """Numbers of the batch's rows, entity by entity, in the order accepted within each."""
    rows: Rows
    entity: Ints
    """Of each life, its entity's number in the batch."""
    went_on: Bools
    """Of each life, whether it began in an earlier batch."""
    first: Ints
    """Of each life, the number in the batch of its first row."""
    ended: Bools
    """Of each life, whether another of its entity follows in the batch."""
    seen: Ints
    latest: Ints
    """Of each life after the batch: see Entities."""


def lives_of(entity: Ints, times: Ints, marks: Ints, span_us: int, seen: Ints, latest: Ints) -> Lives:
    """`entity`: of each row, from 0; `seen` and `latest`: of each entity before the batch, NEVER where unknown."""
    order = np.argsort(entity, kind="stable")
    whose, marked = entity[order], marks[order]
    first = np.concatenate(([True], whose[1:] != whose[:-1]))
    since = np.concatenate(([NEVER], marked[:-1]))
    since[first] = seen[whose[first]]
    known = since != NEVER
    anew = ~known | (marked - np.where(known, since, 0) > span_us)
    runs = Runs(np.flatnonzero(first | anew), len(order))
    mine = whose[runs.starts]
    went_on = ~anew[runs.starts]
    begun = np.where(went_on, latest[mine], NEVER)
    newest = runs.accumulate(np.maximum, times[order], begun)
    ended = np.concatenate((mine[1:] == mine[:-1], [False]))
    return Lives(order, Rows(runs, times[order], runs.before(newest, begun)), mine, went_on, order[runs.starts], ended,
                 marked[runs.last], newest[runs.last])


def numbered(lives: Lives, known: Ints, following: int) -> tuple[Ints, int]:
    """The number of each life, new ones counted up from `following` in the order they began, and the next free one.

    `known`: of each entity of the batch its number so far.
    """
    numbers = known[lives.entity]
    new = np.flatnonzero(~lives.went_on)
    numbers[new[np.argsort(lives.first[new], kind="stable")]] = following + np.arange(len(new))
    return numbers, following + len(new)


def find(names: Array, entities: Entities) -> Ints:
    """Place of each of `names` among `entities`; -1 where it is not there."""
    places = {name: place for place, name in enumerate(entities.name.tolist())}
    return np.fromiter(map(places.get, names.tolist(), repeat(-1)), np.int64, len(names))
