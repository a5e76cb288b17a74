"""The example of a plant: readings nobody has seen are told apart, and what its page says of plain answers is so."""

from examples import alone
from examples.plant.compare import accuracy, answered, plain
from examples.plant.data import SAMPLES, readings
from tests.unit.examples.taken import refusals


def test_its_readings_are_taken_by_its_pipeline() -> None:
    of, first, rest = alone.spec("plant"), readings("train"), readings("test")
    assert (len(first), len(rest)) == (100, 100)
    assert {len(one.samples) for one in (*first, *rest)} == {SAMPLES}
    assert refusals(of, [one.row() for one in (*first, *rest)]) == []
    assert not {one.samples for one in first} & {one.samples for one in rest}


def test_failures_are_told_by_their_course_better_than_by_the_nearest_reading() -> None:
    first, rest = readings("train"), readings("test")
    beside = {name: accuracy(said, rest) for name, said in plain(first, rest).items()}
    assert beside == {"always the commonest": 0.19, "as the nearest": 0.76}
    assert accuracy(answered(first, rest), rest) >= 0.95
