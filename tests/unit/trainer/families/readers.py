"""Readers who rate books, drawn from a stated model, so that it is known what there is to be learnt.

Each of 300 readers has two favourite kinds of eight. What a reader opens is of a favourite kind with a chance of 0.7,
else of any; within a kind, the book's chance falls as one over its rank (Zipf). A book of a favourite kind gets 4 or 5
stars (one in ten times 1 to 3), any other 1 to 3 (one in ten times 4 or 5). In the evening the first favourite kind is
opened, otherwise the second. The same `seed` gives the same rows.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

KINDS = ("crime", "poetry", "history", "travel", "science", "fantasy", "cooking", "art")
BOOKS_A_KIND, READERS = 12, 300
SURPRISE, FAVOURED = 0.1, 0.7
START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def ratings(count: int = 6000, seed: int = 7) -> list[dict[str, Any]]:
    """Rows with the rating beside the event, in order of time."""
    chance = np.random.default_rng(seed)
    favourites = np.array([chance.choice(len(KINDS), 2, replace=False) for _ in range(READERS)])
    popularity = 1 / np.arange(1, BOOKS_A_KIND + 1)
    rows = []
    for number in range(count):
        reader, evening = int(chance.integers(READERS)), bool(chance.random() < 0.5)
        favoured = chance.random() < FAVOURED
        kind = int(favourites[reader, 0 if evening else 1]) if favoured else int(chance.integers(len(KINDS)))
        book = int(chance.choice(BOOKS_A_KIND, p=popularity / popularity.sum()))
        liked = (kind in favourites[reader]) != (chance.random() < SURPRISE)
        rows.append({"event_id": f"r-{seed}-{number:06d}", "reader": f"reader-{reader:03d}", "evening": evening,
                     "occurred_at": (START + timedelta(minutes=number)).isoformat(),
                     "book": f"{KINDS[kind]}-{book + 1:02d}",
                     "rating": int(chance.integers(4, 6) if liked else chance.integers(1, 4))})
    return rows
