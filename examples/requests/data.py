"""What people say to the assistant of a chain of shops, each with what it asks for: MindMeld's Kwik-E-Mart.

    python -m examples.requests.data > requests.jsonl              the requests to learn from, to be uploaded
    python -m examples.requests.data FOLDER > requests.jsonl       all of an application of your own, laid out alike
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from examples.bundled import bundled
from lepton.errors import Invalid, LeptonError, Missing

LEARNT_FROM = 560
"""The rest no model has seen."""
_SEED = 1966
_FILES = ("train.txt", "test.txt")
# A name is marked `{Elm Street|store_name}`, with a role as `{savings|account_type|dest}`.
_MARKED = re.compile(r"\{([^{}|]+)\|([^{}|]+)(?:\|[^{}|]+)?\}")
_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody said, and what was wanted."""

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

    def row(self, run: str = "request") -> dict[str, Any]:
        """Event and label in one, as a file to upload has them."""
        return {**self.event(run), "wish": self.wish}


def requests(folder: Path | None = None) -> list[Request]:
    """All that are worded differently, in an order drawn once; without a folder, the package's.

    `folder` is a MindMeld application's `domains`: `DOMAIN/INTENT/train.txt` and `test.txt`, a sentence a line. Of
    sentences that differ in capitals, in punctuation or in the names marked in them only the first is taken, so that
    none of the later requests is in truth one of those learnt from. Raises Missing, Invalid.
    """
    found: dict[str, tuple[str, str]] = {}
    for place, line, wish in _lines(folder or _package()):
        text = _MARKED.sub(r"\1", line)
        if "{" in text or "}" in text:
            raise Invalid("a brace does not mark a name", field="text", place=place, remedy="write {words|type}")
        worded = _NO_WORD.sub(" ", _MARKED.sub(r" \2 ", line).lower()).strip()
        if found.setdefault(worded, (text, wish))[1] != wish:
            raise Invalid(f"the same words are said to want {found[worded][1]} and {wish}", field="wish", place=place,
                          remedy="keep the line under one of the two")
    said = list(found.values())
    order = np.random.default_rng(_SEED).permutation(len(said))
    return [Request(number, *said[at]) for number, at in enumerate(order)]


def _package() -> Path:
    return bundled("mindmeld/kwik_e_mart/domains/store_info/greet/train.txt").parents[2]


def _lines(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Place, sentence with its marks, and wish."""
    files = sorted(path for path in folder.glob("*/*/*.txt") if path.name in _FILES)
    if not files:
        raise Missing("no sentences were found", place=str(folder),
                      remedy=f"name a folder with DOMAIN/INTENT/{_FILES[0]} in it")
    for path in files:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.strip():
                yield f"{path}, line {number}", line.strip(), path.parent.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder `domains` of a MindMeld application of your own")
    folder = parser.parse_args().folder
    try:
        rows = requests(folder)
    except LeptonError as error:
        raise SystemExit(str(error)) from error
    for one in rows if folder else rows[:LEARNT_FROM]:
        print(json.dumps(one.row()))


if __name__ == "__main__":
    main()
