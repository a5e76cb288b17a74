"""How a process comes to its loops, and says which it has."""

import logging

from lepton.errors import Unavailable
from lepton.native import Wanted, built, choose

_log = logging.getLogger(__name__)


def use(wanted: Wanted) -> None:
    """For all that is opened in this process from now on.

    Raises Unavailable when the native ones are asked for and are not built.
    """
    choose(wanted)
    if built() is not None:
        _log.info("loops: native")
    elif wanted == "python":
        _log.info("loops: python, as asked for")
    elif wanted == "auto":
        _log.info("loops: python; the native ones are not built here (tools/wire.sh builds them where Rust is)")
    else:
        raise Unavailable("the native loops were asked for, but are not built here", field="LEPTON_INGEST_LOOPS",
                          remedy="run tools/wire.sh, which needs Rust, or set auto or python")
