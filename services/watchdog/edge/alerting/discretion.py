"""What libraries log while a message is sent, without the address: it holds passwords, tokens, people's numbers."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from urllib.parse import unquote

HIDDEN: Final = "****"
LIBRARIES: Final = ("apprise", "urllib3.connectionpool")
_SHORTEST: Final = 3
"""Shorter runs of letters and digits are in every line, and no secret."""

_address: ContextVar[str] = ContextVar("address", default="")


@contextmanager
def discreet(address: str) -> Iterator[None]:
    """While it lasts, lines of this task or thread show nothing of `address` but its scheme."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def _without_address(record: logging.LogRecord) -> bool:
    """Lines that repeat an address as it was given are left out: what an encoding changed may not be found in them."""
    said = record.getMessage()
    if "URL" in said and record.name == "apprise":
        return False
    if address := _address.get():
        record.msg, record.args = _pieces(address).sub(HIDDEN, said), ()
        # A traceback repeats what the exception says, addresses included.
        record.exc_info = record.exc_text = None
    return True


def _pieces(address: str) -> re.Pattern[str]:
    """Any run of letters and digits that the address has behind its scheme, encoded or not."""
    told = address.partition("://")[2] or address
    runs = {run for text in (told, unquote(told)) for run in re.findall(r"[^\W_]+", text) if len(run) >= _SHORTEST}
    # The longest first: a part of it may be a piece too.
    return re.compile("|".join(map(re.escape, sorted(runs, key=lambda run: (-len(run), run)))) or r"(?!)")


for _library in LIBRARIES:
    logging.getLogger(_library).addFilter(_without_address)
