"""Requests by a stated grammar: what is wanted, said in several ways, with slips of the finger and shouting."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

REQUESTS, LEARNT_FROM = 1400, 1000
"""The rest no model has seen; half of them are said in ways that nobody used before."""
_SEED = 1966
_SLIPS = 0.06
"""Share of words with two letters swapped: a word nobody has seen."""

# What is wanted decides which words stand together, and no word alone: a bill, a move or a meter is in several.
_WAYS: dict[str, tuple[str, ...]] = {
    "outage": ("there is no power {place}", "the lights went out {place} {since}", "we have had no electricity {since}",
               "is there an outage {place}?", "everything is dark {place}, when will power be back?"),
    "bill": ("why is my bill so high {since}?", "I do not understand the amount on my bill",
             "you have charged me twice {since}", "the bill for {place} is wrong", "can you explain what I pay for?"),
    "payment": ("can I pay my bill later?", "I would like to pay in two parts", "my payment did not go through {since}",
                "please change the day my bill is paid", "what is the account number to pay to?"),
    "move": ("I am going to move, please stop the power {place}", "we move {since} and need power at the new house",
             "how do I take my contract with me when I move?", "please start electricity {place} for a new tenant"),
    "meter": ("here is the reading of my meter {number}", "the meter {place} shows {number}",
              "my meter does not turn {since}", "when will somebody read the meter {place}?"),
}
# Said by none of the requests that are learnt from, and by half of the others.
_NEW_WAYS: dict[str, tuple[str, ...]] = {
    "outage": ("no lights {place} {since}, is the power out?", "our electricity is gone {place}"),
    "bill": ("the amount you charged me {since} is too high", "I want my bill for {place} explained"),
    "payment": ("is it possible to pay in parts?", "my account was changed, can I pay again?"),
    "move": ("I will have a new house {since}, can my contract move too?", "we move out, stop our contract {place}"),
    "meter": ("reading {number} {since}", "somebody has to look at the meter {place}, it shows {number}"),
}
_PLACES = ("in my house", "at our shop", "in the whole street", "on the second floor", "at my mother's flat")
_SINCE = ("since last night", "since Monday", "this morning", "for two days", "next week", "again")
_BEFORE = ("", "", "Hello, ", "Good morning, ", "Hi there! ", "Excuse me, ")
_AFTER = ("", "", " Thank you.", " Please help.", " Regards, A. Moore")


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wrote, and what they wanted."""

    number: int
    text: str
    wish: str

    @property
    def answer(self) -> str:
        return self.wish

    def event(self, run: str) -> dict[str, Any]:
        return {"event_id": self.event_id(run), "occurred_at": datetime.now(UTC).isoformat(), "text": self.text}

    def label(self, run: str) -> dict[str, Any]:
        return {"event_id": self.event_id(run), "label": self.wish}

    def event_id(self, run: str) -> str:
        return f"{run}-{self.number:04d}"


def requests() -> list[Request]:
    """All of them, the same every time."""
    chance = np.random.default_rng(_SEED)
    found = []
    for number in range(REQUESTS):
        wish = str(chance.choice(list(_WAYS)))
        ways = _NEW_WAYS if number >= LEARNT_FROM and chance.random() < 0.5 else _WAYS
        said = str(chance.choice(ways[wish])).format(
            place=chance.choice(_PLACES), since=chance.choice(_SINCE), number=chance.integers(1000, 99_999))
        text = f"{chance.choice(_BEFORE)}{said}{chance.choice(_AFTER)}"
        words = [_slipped(word, chance) if chance.random() < _SLIPS else word for word in text.split(" ")]
        shout = chance.random()
        text = " ".join(words)
        found.append(Request(number, text.upper() if shout < 0.05 else text.lower() if shout < 0.3 else text, wish))
    return found


def _slipped(word: str, chance: np.random.Generator) -> str:
    if len(word) < 3:
        return word
    place = int(chance.integers(0, len(word) - 1))
    return word[:place] + word[place + 1] + word[place] + word[place + 2:]
