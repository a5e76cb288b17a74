"""What the OpenAPI page says of data sets: the shape of each answer, with an example."""

from typing import Any

from services.gateway.edge.http.answers import Responses, body, described

_TEXT, _WHOLE, _NUMBER, _OBJECT = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "object"}
_TIME = {"type": "string", "format": "date-time"}
_ID = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def _shape(title: str, **members: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "type": "object", "properties": members}


def _or_null(shape: dict[str, Any]) -> dict[str, Any]:
    return {**shape, "type": [shape["type"], "null"]}


DATASET = _shape(
    "Dataset", name=_TEXT, dataset=_or_null(_TEXT), generation=_WHOLE,
    rows={**_WHOLE, "description": "Stored rows, without those erased or dropped by retention."},
    outcomes=_WHOLE, size_bytes=_WHOLE, fields=_WHOLE, label=_or_null(_TEXT), retention_s=_or_null(_NUMBER),
    snapshots=_WHOLE)
DATASET_EXAMPLE = {"name": "phishing", "dataset": None, "generation": 1, "rows": 1250, "outcomes": 1180,
                   "size_bytes": 262144, "fields": 10, "label": "is_phishing", "retention_s": None, "snapshots": 1}
PROFILE = _shape(
    "Profile", pipeline=_TEXT, snapshot=_or_null(_TEXT), rows=_WHOLE, entities=_WHOLE,
    entities_exact={"type": "boolean"}, fields={
        "type": "object", "additionalProperties": _OBJECT,
        "description": "By field: type, rows, missing, distinct, mean, std, min, max, quantiles, top; `…_exact` says "
                       "whether an estimate had to do."})
PROFILE_EXAMPLE = {"pipeline": "phishing", "snapshot": None, "rows": 1250, "entities": 310, "entities_exact": True,
                   "fields": {"https": {"type": "double", "rows": 1250, "missing": 12, "mean": 0.61, "std": 0.49,
                                        "min": 0.0, "max": 1.0, "quantiles": {"0.5": 1.0}, "quantiles_exact": True,
                                        "distinct": 2, "distinct_exact": True}}}
SNAPSHOT = _shape(
    "Snapshot", id={**_TEXT, "description": "SHA-256 of the manifest: the same rows have the same id."}, pipeline=_TEXT,
    generation=_WHOLE, spec_digest=_TEXT, label_until=_or_null(_TIME),
    rows={**_WHOLE, "description": "What reading it gives."}, rows_taken=_WHOLE, outcomes_taken=_WHOLE,
    created_by=_TEXT, created_at=_TIME, erased={"type": "array", "items": _shape(
        "Erased", job_id=_TEXT, at=_TIME, rows=_WHOLE)}, partitions={"type": "array", "items": _shape(
            "SnapshotPartition", stream=_TEXT, generation=_WHOLE, partition=_WHOLE, first=_WHOLE, next=_WHOLE,
            rows=_WHOLE, segments=_WHOLE)})
SNAPSHOT_EXAMPLE = {
    "id": _ID, "pipeline": "phishing", "generation": 1, "spec_digest": "9f2c…", "label_until": None, "rows": 1248,
    "rows_taken": 1250, "outcomes_taken": 1180, "created_by": "lk_0123456789abcdef",
    "created_at": "2026-01-31T12:00:00+00:00",
    "erased": [{"job_id": "erase-19c0", "at": "2026-02-01T08:00:00+00:00", "rows": 2}]}
_PART = _shape("Part", rows=_WHOLE, labelled=_WHOLE, first=_or_null(_TIME), last=_or_null(_TIME))
SPLIT = _shape("Split", pipeline=_TEXT, snapshot=_or_null(_TEXT), by=_TEXT, seed=_WHOLE,
               shares={"type": "array", "items": _NUMBER}, method=_TEXT,
               cuts={"type": ["array", "null"], "items": _TIME},
               parts={"type": "object", "additionalProperties": _PART})
SPLIT_EXAMPLE = {
    "pipeline": "phishing", "snapshot": _ID, "by": "entity", "seed": 7, "shares": [0.8, 0.1, 0.1],
    "method": "SHA-256 of `<seed>:<id>`, …", "cuts": None, "parts": {"train": {
        "rows": 1003, "labelled": 948, "first": "2026-01-01T00:00:00+00:00", "last": "2026-01-31T11:00:00+00:00"}}}
JOB = _shape(
    "Job", job_id=_TEXT, pipeline=_TEXT, action={**_TEXT, "enum": ["SNAPSHOT", "ERASE", "DROP_SNAPSHOT"]},
    state={**_TEXT, "enum": ["QUEUED", "RUNNING", "DONE", "FAILED"]}, progress=_shape("Progress", done=_WHOLE,
                                                                                      total=_WHOLE),
    result=_OBJECT, reason=_or_null(_TEXT), issuer=_TEXT, queued_at=_TIME, updated_at=_TIME)
JOB_EXAMPLE = {
    "job_id": "snapshot-7f3a", "pipeline": "phishing", "action": "SNAPSHOT", "state": "DONE",
    "progress": {"done": 0, "total": 0}, "result": {"snapshot": _ID, "new": True, "rows": 1250, "outcomes": 1180},
    "reason": None, "issuer": "lk_0123456789abcdef", "queued_at": "2026-01-31T12:00:00+00:00",
    "updated_at": "2026-01-31T12:00:01+00:00"}
ASKED: Responses = {202: described("The command is durable; ingest does it. Ask for the job.", JOB, {
    **JOB_EXAMPLE, "state": "QUEUED", "result": {}})}
ERASE = {**JOB, "title": "Erasure", "properties": {
    **JOB["properties"], "entity_key": {**_TEXT, "description": "What the entity is known by: an HMAC-SHA256."}}}
WOULD_ERASE = _shape("WouldErase", dry_run={"type": "boolean"}, rows=_WHOLE, outcomes=_WHOLE)
ERASED: Responses = {
    200: described("What would be erased (`dry_run`).", WOULD_ERASE, {"dry_run": True, "rows": 2, "outcomes": 2}),
    202: described("The command is durable; ingest does it. Ask for the job.", ERASE, {
        **JOB_EXAMPLE, "job_id": "erase-19c0", "action": "ERASE", "state": "QUEUED", "result": {},
        "entity_key": "9f86d081…"})}
_BYTES = {"type": "string", "format": "binary"}
ROWS: Responses = {200: {
    "description": "The rows, streamed. An answer that breaks off is not whole: Arrow and Parquet then lack their end.",
    "content": {
        "application/vnd.apache.arrow.stream": {"schema": _BYTES}, "application/vnd.apache.parquet": {"schema": _BYTES},
        "application/x-ndjson": {"schema": _TEXT, "example": (
            '{"_event_id":"e-1","_entity":"site-7","_occurred_at":"2026-01-31T12:00:00Z","https":1.0,"_label":true,'
            '"_label_time":"2026-01-31T13:00:00Z"}\n')}}}}
_LABELS_TEXT = '{"event_id": "e-1", "label": true}\n'
LABELS = body("Corrections: columns or members `event_id`, `label`, and where there are `entity` and `label_time`.", {
    "text/csv": (_TEXT, "event_id,label\ne-1,true\n"), "application/x-ndjson": (_TEXT, _LABELS_TEXT),
    "application/json": ({"type": "array", "items": _OBJECT}, [{"event_id": "e-1", "label": True}]),
    "application/vnd.apache.parquet": (_BYTES, "(a Parquet file)"),
    "application/vnd.apache.arrow.stream": (_BYTES, "(an Arrow stream)")})
LABELLED: Responses = {202: described("Every one is durable; ingest stores it next.", _shape(
    "Labelled", accepted=_WHOLE), {"accepted": 2})}
