"""How much memory models may take together, what each took when it was loaded, and which was asked longest ago."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from lepton.contracts.pb import models_pb2
from lepton.errors import Busy, Refused

MIB = 1024 * 1024

MAX_WAITING = 1000
"""Requests that may wait for a model to be loaded again."""

_RETRY_S = 0.5
"""After this time another model may have become idle."""


class Room:
    """`budget_mib` 0: no bound. `resident` tells the bytes this process holds; read around each load."""

    def __init__(self, budget_mib: int = 0, resident: Callable[[], int] = lambda: 0) -> None:
        self.bounded = budget_mib > 0
        self.resident = resident
        self._budget = budget_mib * MIB
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._measured: dict[str, int] = {}

    def touch(self, model: str) -> None:
        """The model was asked, or taken up."""
        self._asked[model] = None
        self._asked.move_to_end(model)

    def forget(self, model: str) -> None:
        self._asked.pop(model, None)

    def longest_ago(self) -> list[str]:
        return list(self._asked)

    def expected(self, manifest: models_pb2.ModelManifest) -> int:
        """Bytes a file takes: what it took before, else at least its size."""
        return self._measured.get(manifest.sha256, manifest.size_bytes)

    def took(self, manifest: models_pb2.ModelManifest, grown: int) -> int:
        """Bytes to count for a file during whose load the process grew by `grown`; kept for its next load.

        Memory that was freed before is used again, so a load may seem to cost nothing: the file's size is the least,
        and what was once measured stays.
        """
        cost = max(self._measured.get(manifest.sha256, 0), grown, manifest.size_bytes)
        self._measured[manifest.sha256] = cost
        return cost

    def excess(self, costs: Iterable[int], needed: int) -> int:
        """Bytes too much, were so many `needed` beside `costs`; 0 when they fit."""
        return max(0, sum(costs) + needed - self._budget) if self.bounded else 0

    def check(self, model: str, needed: int) -> None:
        """Raises Refused for what would not fit alone."""
        if self.bounded and needed > self._budget:
            raise Refused(f"{model} takes {_mib(needed)} MiB, all models together may take {_mib(self._budget)}",
                          field="LEPTON_PREDICTOR_MEMORY_MIB", remedy="raise it, or publish a smaller model")

    def full(self, model: str, needed: int) -> Busy:
        """What is raised while nothing else can leave."""
        return Busy(f"there is no room for {model} ({_mib(needed)} MiB): every model in memory is in use",
                    retry_after_s=_RETRY_S, field="LEPTON_PREDICTOR_MEMORY_MIB",
                    remedy="send again later, or raise the memory budget")


def _mib(count: int) -> str:
    return f"{count / MIB:.1f}"
