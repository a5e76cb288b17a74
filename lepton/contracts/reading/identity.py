"""What may name an event or an entity, wherever it comes in: text or a whole number, within bounds, kept as text."""

import re
from typing import Final

from lepton.errors import Invalid

MAX_ID_CHARACTERS: Final = 256
"""A longer one would be taken at one door and refused at the next."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def identifier(value: object) -> str:
    """An event id, or an entity and so the key of its record; a whole number stands for its digits.

    Raises Invalid, whose message says what is wrong of the value and leaves its name to the caller.
    """
    if value is None:
        raise Invalid("is missing")
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Invalid("must be text that is not empty, or a whole number")
    if len(text := str(value)) > MAX_ID_CHARACTERS:
        raise Invalid(f"is longer than {MAX_ID_CHARACTERS} characters")
    if _CONTROL.search(text):
        raise Invalid("holds control characters")
    return text
