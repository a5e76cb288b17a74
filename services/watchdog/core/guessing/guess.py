"""An estimate of a metric, made without labels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guess:
    """`error`: standard error of `value`. `rows`: answers it is about; `learnt`: labelled predictions it rests on."""

    value: float
    error: float
    rows: int
    learnt: int
