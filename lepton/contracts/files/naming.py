"""How a column of a file is called as a field of a pipeline."""

import functools
import re
from typing import Final

MAX_NAME: Final = 63
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@functools.lru_cache(maxsize=10_000)
def plain_name(column: str) -> str:
    """A column's name as a field: lower-case letters, digits and _, beginning with a letter."""
    name = column
    if not _FIELD.fullmatch(column):
        name = re.sub(r"[^a-z0-9]+", "_", column.strip().lower()).strip("_")
    if not name or not name[0].isalpha():
        name = f"f_{name}".rstrip("_")
    # `default` has a meaning of its own in a Pipeline's cleaning rules.
    return f"{name}_field" if name == "default" else name[:MAX_NAME]
