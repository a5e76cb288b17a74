"""Why a run can fail, said by class so that the watchdog knows whether data, a parameter or a resource must change."""

from typing import Literal

FailureClass = Literal["data", "parameter", "resource", "internal"]

# The last is how a thread's stack that finds no room is told.
_OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc",
                  "resource temporarily unavailable")


class RunFailed(Exception):
    """The run cannot succeed as it was asked; the same run again would fail the same way (but for `resource`)."""

    def __init__(self, failure_class: FailureClass, message: str, remedy: str, name: str = "") -> None:
        super().__init__(message)
        self.failure_class: FailureClass = failure_class
        self.message = message
        self.remedy = remedy
        self.name = name or _NAMELESS[failure_class]
        """One word for what happened, which stays when messages change: programs go by it."""


# What nobody gave a name of its own.
_NAMELESS: dict[FailureClass, str] = {"data": "unfit_data", "parameter": "unfit_parameter",
                                      "resource": "no_resource", "internal": "internal_error"}


def bad_data(message: str, remedy: str, name: str = "") -> RunFailed:
    return RunFailed("data", message, remedy, name)


def bad_parameter(message: str, remedy: str, name: str = "") -> RunFailed:
    return RunFailed("parameter", message, remedy, name)


def no_resource(message: str, remedy: str, name: str = "") -> RunFailed:
    return RunFailed("resource", message, remedy, name)


def of_error(error: BaseException) -> RunFailed:
    """The named failure behind any error a run can end with; what nobody foresaw is `internal`."""
    if isinstance(error, RunFailed):
        return error
    # torch and its libraries say a failed allocation with a plain RuntimeError.
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY):
        return no_resource("the run needs more memory than it may use",
                           "use fewer rows (window_rows), smaller hidden layers or a smaller batch_size, or raise "
                           "LEPTON_TRAINER_RUN_MEMORY_MB", "out_of_memory")
    return RunFailed("internal", f"{type(error).__name__}: {error}",
                     "this is a bug of the trainer; the log of the run holds the trace")
