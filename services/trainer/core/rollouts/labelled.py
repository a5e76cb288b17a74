"""How wrong both versions of a rollout were, by the labels that came for what they answered."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_WAITING = 50_000
"""Answers, and labels, that wait for one another; the oldest goes when there are more."""

Value = TypeVar("Value")
Truth = str | float


@dataclass(slots=True)
class Losses:
    """Sums of what each labelled answer cost: 1 for a wrong label, else how far a number was off."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, loss: float) -> None:
        self.count += 1
        self.total += loss
        self.squares += loss * loss

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def spread(self) -> float:
        """Variance of one loss."""
        return max(0.0, self.squares / self.count - self.mean ** 2) if self.count else 0.0


@dataclass(slots=True)
class Labelled:
    """Of one rollout. Each answer is judged once; answers of other versions than the two are no matter."""

    champion: int
    candidate: int
    losses: dict[int, Losses] = field(init=False)
    _answers: "_Waiting[tuple[int, Truth]]" = field(init=False)
    _truths: "_Waiting[Truth]" = field(init=False)

    def __post_init__(self) -> None:
        self.losses = {self.champion: Losses(), self.candidate: Losses()}
        self._answers, self._truths = _Waiting(), _Waiting()

    def answered(self, event_id: str, version: int, answer: Truth) -> None:
        if version not in self.losses:
            return
        truth = self._truths.take(event_id)
        if truth is None:
            self._answers.put(event_id, (version, answer))
        else:
            self._judge(version, answer, truth)

    def turned_out(self, event_id: str, truth: Truth) -> None:
        found = self._answers.take(event_id)
        if found is None:
            self._truths.put(event_id, truth)
        else:
            self._judge(*found, truth)

    def _judge(self, version: int, answer: Truth, truth: Truth) -> None:
        if isinstance(answer, str):
            self.losses[version].add(float(answer != as_label(truth)))
        elif isinstance(truth, float):
            self.losses[version].add(abs(answer - truth))


def as_label(truth: Truth) -> str:
    """A label as the text a model answers with; whole numbers are classes without a fraction."""
    if isinstance(truth, float):
        return str(int(truth)) if truth.is_integer() else repr(truth)
    return truth


class _Waiting(Generic[Value]):
    def __init__(self) -> None:
        self._entries: OrderedDict[str, Value] = OrderedDict()

    def put(self, key: str, value: Value) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_WAITING:
            self._entries.popitem(last=False)

    def take(self, key: str) -> Value | None:
        return self._entries.pop(key, None)
