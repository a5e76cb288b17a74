"""Prometheus is told of summaries as they are sent, in series whose number no producer decides."""

from datetime import UTC, datetime

from lepton.clock import FakeClock
from lepton.contracts.pb.quality_pb2 import CodeCount, FieldQuality, QualitySummary
from lepton.runtime.health import Health
from lepton.runtime.telemetry import Telemetry
from services.ingest.edge.counters import MAX_CODES, MAX_FIELDS, QualityCounters
from services.ingest.settings import IngestSettings


def exposed(*summaries: QualitySummary) -> str:
    clock = FakeClock()
    telemetry = Telemetry("ingest", "ingest", IngestSettings(), clock, Health(clock))
    counters = QualityCounters(telemetry)
    for summary in summaries:
        counters.count(summary)
    return telemetry.exposition().decode()


def summary(**counts: int) -> QualitySummary:
    told = QualitySummary(pipeline="shop", **counts)  # type: ignore[arg-type]
    told.interval_start.FromDatetime(datetime(2026, 1, 31, tzinfo=UTC))
    return told


def value(text: str, name: str, *attributes: str) -> float:
    """The one sample of a counter with all these attributes."""
    (line,) = [line for line in text.splitlines()
               if line.startswith(f"{name}_total{{") and all(one in line for one in attributes)]
    return float(line.rpartition(" ")[2])


def test_every_figure_of_a_summary_has_its_counter() -> None:
    one = summary(accepted=90, rejected=5, duplicates=3, content_duplicates=2, late=4, future=1, quarantined=6)
    one.rejections.extend([CodeCount(code="missing", count=2), CodeCount(code="wrong_type", count=3)])
    one.fields.append(FieldQuality(field="price", present=80, missing=10, invalid=3, outliers=2, repaired=1))
    text = exposed(one, one)
    for what, count in (("accepted", 180), ("duplicate", 6), ("content_duplicate", 4), ("late", 8), ("future", 2),
                        ("quarantined", 12)):
        assert value(text, "lepton_ingest_quality_events", f'what="{what}"', 'pipeline="shop"') == count
    assert value(text, "lepton_ingest_quality_rejected", 'code="wrong_type"') == 6
    for what, count in (("present", 160), ("missing", 20), ("invalid", 6), ("outlier", 4), ("repaired", 2)):
        assert value(text, "lepton_ingest_quality_values", f'what="{what}"', 'field="price"') == count


def test_more_fields_and_codes_than_there_is_room_for_are_counted_together() -> None:
    one = summary(accepted=1)
    one.rejections.extend(CodeCount(code=f"c{number}", count=1) for number in range(MAX_CODES + 7))
    one.fields.extend(FieldQuality(field=f"f{number}", present=1) for number in range(MAX_FIELDS + 9))
    text = exposed(one)
    assert value(text, "lepton_ingest_quality_rejected", 'code="other"') == 7
    assert value(text, "lepton_ingest_quality_values", 'field="other"') == 9
    assert sum(line.startswith("lepton_ingest_quality_values_total{") for line in text.splitlines()) == MAX_FIELDS + 1
