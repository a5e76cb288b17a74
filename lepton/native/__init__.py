"""Whether loops over bytes, records and events run natively in this process, or in Python, which gives the same."""

import importlib
from functools import cache
from types import ModuleType
from typing import Literal

Wanted = Literal["auto", "native", "python"]

_NAME = "lepton.native.loops"
_wanted: Wanted = "auto"


def choose(wanted: Wanted) -> None:
    """For all that is opened in this process from now on; see `lepton.native.choice`."""
    global _wanted
    _wanted = wanted


def built() -> ModuleType | None:
    """The native loops (`loops.pyi`); None where Python does the work."""
    return None if _wanted == "python" else found()


@cache
def found() -> ModuleType | None:
    """The native loops, whether they are wanted or not. Looked for once: a search in vain is dear."""
    try:
        return importlib.import_module(_NAME)
    except ImportError:
        return None
