"""The normal form of text: what `normalise` of a field does, in one order, whatever order it is written in."""

import re
import unicodedata
from collections.abc import Callable, Collection

_SPACES = re.compile(r"\s+")


def normaliser(steps: Collection[str]) -> Callable[[str], str]:
    """Text to its normal form; doing it twice changes nothing more.

    Case first, then Unicode form (a lower-case letter may be several code points), then spaces.
    """
    lower, nfc, trim, collapse = (step in steps for step in ("lower", "nfc", "trim", "collapse"))

    def normal(text: str) -> str:
        if lower:
            text = text.lower()
        if nfc:
            text = unicodedata.normalize("NFC", text)
        if lower and nfc:
            # What was composed may have a lower case of its own.
            text = unicodedata.normalize("NFC", text.lower())
        if trim:
            text = text.strip()
        return _SPACES.sub(" ", text) if collapse else text

    return normal
