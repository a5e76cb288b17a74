"""Which pipelines' entities are remembered here, and whether what is known of them is complete."""

from typing import TYPE_CHECKING

from lepton.clock import Clock
from lepton.contracts import names
from lepton.errors import Invalid, Unavailable
from services.predictor.core.recent.newest import Newest

if TYPE_CHECKING:
    import pyarrow as pa

    from services.predictor.core.recent.latest import Latest


class Unsupported(Invalid):
    """The protocol has this, and this server or version does not."""


class Entities:
    """Belongs to the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest: dict[str, Latest] = {}
        self._reading: set[str] = set()

    def remember(self, pipeline: str, count: int, max_age_s: float) -> None:
        """Begin anew with nothing: what is kept of its topic is to be heard, then `caught_up` to be called."""
        # Brings Arrow with it, which a process without remembered entities is spared.
        from services.predictor.core.recent.latest import Latest

        self._latest[pipeline] = Latest(count, max_age_s)
        self._reading.add(pipeline)

    def forget(self, pipeline: str) -> None:
        self._latest.pop(pipeline, None)
        self._reading.discard(pipeline)

    def heard(self, pipeline: str, batch: "pa.RecordBatch") -> None:
        """Accepted rows of one partition, in its order; nothing for a pipeline that is not remembered any more."""
        latest = self._latest.get(pipeline)
        if latest is not None:
            latest.add(batch)

    def caught_up(self, pipeline: str) -> None:
        """Everything that was in the topic at the start has been heard."""
        self._reading.discard(pipeline)

    def counts(self) -> list[tuple[float, dict[str, str]]]:
        """How many entities are remembered, by pipeline. For any thread."""
        return [(float(len(latest)), {names.PIPELINE: pipeline}) for pipeline, latest in list(self._latest.items())]

    def find(self, pipeline: str, entity: str) -> Newest:
        """Its newest row. Raises Unsupported, Missing, and Unavailable while what was before the start is read."""
        latest = self._latest.get(pipeline)
        if latest is None:
            raise Unsupported(f"no entities of `{pipeline}` are remembered here", field="entities",
                              remedy="set serve.entities.remember in the Pipeline, or send the row's fields by name")
        if pipeline in self._reading:
            # An older row than the newest would be an answer too, and a wrong one.
            raise Unavailable(f"the newest features of `{pipeline}` are still being read", field="entities",
                              remedy="send again in a moment")
        return latest.find(entity, self._clock.now())
