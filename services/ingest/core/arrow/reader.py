"""How the records of a batch, whatever their form, become rows with typed columns in the order of their events."""

from collections.abc import Sequence

from lepton.contracts.pipeline import Pipeline
from services.ingest.core.features import Columns
from services.ingest.core.quality import Intake, RawEvent, Validator


class Reader:
    """Reads records of one Pipeline version. Every event is in the answer once: as a row, or as a rejection."""

    def __init__(self, pipeline: Pipeline, validator: Validator, columns: Columns) -> None:
        self._validator = validator
        self._columns = columns
        label = pipeline.events.label
        with_event = label is not None and label.arrives == "with_event"
        self._label_of = validator.column(label.field) if label is not None and with_event else None

    def read(self, events: Sequence[RawEvent], quarantined: frozenset[str] = frozenset()) -> Intake:
        intake = self._validator.read(events, quarantined)
        intake.values = self._columns.values(intake.rows)
        intake.labels = list(map(self._label_of, intake.rows)) if self._label_of is not None else []
        return intake
