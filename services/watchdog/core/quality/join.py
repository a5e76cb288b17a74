"""Brings each prediction together with its outcome, whichever comes first, within bounded memory."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.watchdog.core.inputs import Judged

# An hour of a thousand events a second would not fit; labels later than this many events are not joined here.
MAX_WAITING = 50_000
# Rows given on at a tick: a bound for the journal. What comes in a burst is given over the next ticks; of a stream that
# is always faster the oldest are left out, which is no matter of how good they were.
MAX_GIVEN = 50
MAX_JUDGED = 500

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer a version gave, read at `at`; `probabilities` by class, in the version's order."""

    version: int
    answer: str | float
    probabilities: Sequence[float] = ()
    at: float = 0.0


class _Waiting(Generic[Value]):
    """Newest entries by event id; the oldest goes when there are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[str, Value] = OrderedDict()

    def put(self, key: str, value: Value) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def take(self, key: str) -> Value | None:
        return self._entries.pop(key, None)

    def get(self, key: str) -> Value | None:
        return self._entries.get(key)

    def __contains__(self, key: str) -> bool:
        return key in self._entries


@dataclass(slots=True)
class Joiner:
    """Joins one pipeline's predictions and outcomes by event id; each event is judged once, by its last prediction."""

    pipeline: str
    limit: int = MAX_WAITING
    classes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _predictions: _Waiting[Prediction] = field(init=False)
    _outcomes: _Waiting[str | float] = field(init=False)
    _done: _Waiting[int] = field(init=False)
    """Of events that were judged: the version that answered."""
    _judged: deque[Judged] = field(default_factory=lambda: deque(maxlen=MAX_JUDGED))

    def __post_init__(self) -> None:
        self._predictions, self._outcomes = _Waiting(self.limit), _Waiting(self.limit)
        self._done = _Waiting(self.limit)

    def predicted(self, event_id: str, prediction: Prediction) -> None:
        if event_id in self._done:
            return
        truth = self._outcomes.take(event_id)
        if truth is None:
            self._predictions.put(event_id, prediction)
        else:
            self._judge(event_id, prediction, truth)

    def turned_out(self, event_id: str, truth: str | float, at: float = 0.0) -> None:
        """`at`: when it was read, by the clock of `Prediction.at`."""
        if event_id in self._done:
            return
        prediction = self._predictions.take(event_id)
        if prediction is None:
            self._outcomes.put(event_id, truth)
        else:
            self._judge(event_id, prediction, truth, max(0.0, at - prediction.at))

    def take(self) -> list[Judged]:
        """What was joined and not yet given, at most MAX_GIVEN rows, in order."""
        return [self._judged.popleft() for _ in range(min(MAX_GIVEN, len(self._judged)))]

    def version_of(self, event_id: str) -> int:
        """The version whose prediction of the event is remembered; 0: none is."""
        prediction = self._predictions.get(event_id)
        return prediction.version if prediction is not None else self._done.get(event_id) or 0

    def sure(self, prediction: Prediction) -> float | None:
        """The probability of the answer; None: it came with none."""
        classes = self.classes.get(prediction.version, ())
        if prediction.answer not in classes or len(classes) != len(prediction.probabilities):
            return None
        return prediction.probabilities[classes.index(str(prediction.answer))]

    def _judge(self, event_id: str, prediction: Prediction, truth: str | float, late_s: float = 0.0) -> None:
        self._done.put(event_id, prediction.version)
        if isinstance(prediction.answer, str):
            truth = as_label(truth)
        elif not isinstance(truth, float):
            return
        self._judged.append(Judged(self.pipeline, prediction.version, truth, prediction.answer,
                                   *self._chances(prediction, truth), self.sure(prediction), round(late_s, 1)))

    def _chances(self, prediction: Prediction, truth: str | float) -> tuple[float | None, float | None]:
        classes = self.classes.get(prediction.version, ())
        if not classes or len(classes) != len(prediction.probabilities):
            return None, None
        chance = prediction.probabilities[classes.index(truth)] if truth in classes else 0.0
        return chance, prediction.probabilities[1] if len(classes) == 2 else None


def as_label(truth: str | float) -> str:
    """An outcome as the text a model answers with; whole numbers are classes without a fraction."""
    if isinstance(truth, float):
        return str(int(truth)) if truth.is_integer() else repr(truth)
    return truth
