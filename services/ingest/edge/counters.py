"""What Prometheus is told of data quality: counters by pipeline, field and reason, in bounded number."""

from lepton.contracts import names
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.runtime.telemetry import Telemetry

MAX_FIELDS = 64
MAX_CODES = 24
OTHER = "other"


class QualityCounters:
    """Counts summaries that were sent, so that counters and summaries agree. One for a pipeline."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._events = telemetry.counter(names.QUALITY_EVENTS, "Events of quality summaries")
        self._rejected = telemetry.counter(names.QUALITY_REJECTED, "Rejected events of quality summaries")
        self._values = telemetry.counter(names.QUALITY_VALUES, "Field values of quality summaries")
        self._fields: set[str] = set()
        self._codes: set[str] = set()

    def count(self, summary: QualitySummary) -> None:
        at = {names.PIPELINE: summary.pipeline}
        for what, count in (("accepted", summary.accepted), ("duplicate", summary.duplicates),
                            ("content_duplicate", summary.content_duplicates), ("late", summary.late),
                            ("future", summary.future), ("quarantined", summary.quarantined)):
            if count:
                self._events.add(count, {**at, "what": what})
        for rejection in summary.rejections:
            self._rejected.add(rejection.count, {**at, "code": _bounded(self._codes, rejection.code, MAX_CODES)})
        for one in summary.fields:
            field = _bounded(self._fields, one.field, MAX_FIELDS)
            for what, count in (("present", one.present), ("missing", one.missing), ("invalid", one.invalid),
                                ("outlier", one.outliers), ("repaired", one.repaired)):
                if count:
                    self._values.add(count, {**at, "field": field, "what": what})


def _bounded(known: set[str], value: str, most: int) -> str:
    if value not in known:
        if len(known) >= most:
            return OTHER
        known.add(value)
    return value
