"""Every name under which the platform is observed: metrics, measurements in heartbeats, spans and their attributes.

A counter is exposed to Prometheus with the suffix `_total`. A name is added here when it is first used, and never
changes its meaning: dashboards, alerts and the watchdog know it by these letters.
"""

from typing import Final

# Metrics of every process.
ERRORS: Final = "lepton_errors"
"""Counter: failures a process reported. Attribute: kind."""
CPU_SHARE: Final = "process_cpu_share"
"""Measurement: processors in use since the heartbeat before; 1.0 is one of them."""
RSS_BYTES: Final = "process_rss_bytes"
"""Measurement: resident memory."""

# Ingest.
INGEST_ROWS: Final = "lepton_ingest_rows"
"""Counter: rows judged. Attributes: pipeline, verdict (accepted, rejected, duplicate, quarantined)."""
INGEST_LABELS: Final = "lepton_ingest_labels"
"""Counter: late labels judged. Attributes: pipeline, verdict (accepted, rejected, duplicate)."""
CARRIED: Final = "lepton_ingest_carried"
"""Counter: records carried over from a former generation's topics. Attribute: pipeline."""
INGEST_BATCH_SECONDS: Final = "lepton_ingest_batch_seconds"
"""Histogram: from a polled batch to its committed transaction. Attribute: pipeline."""
SEGMENT_ROWS: Final = "lepton_ingest_segment_rows"
"""Counter: rows appended to segments. Attributes: pipeline, stream (features, outcomes)."""
SOURCE_EVENTS: Final = "lepton_ingest_source_events"
"""Counter: events pulled. Attributes: pipeline, source."""
SOURCE_REFUSED: Final = "lepton_ingest_source_refused"
"""Counter: rows pulled that cannot be events. Attributes: pipeline, source."""

QUALITY_EVENTS: Final = "lepton_ingest_quality_events"
"""Counter: events of summaries sent. Attributes: pipeline, what (accepted, duplicate, content_duplicate, late, future,
quarantined)."""
QUALITY_REJECTED: Final = "lepton_ingest_quality_rejected"
"""Counter: rejected events of summaries sent. Attributes: pipeline, code (of a bounded set; the rest is `other`)."""
QUALITY_VALUES: Final = "lepton_ingest_quality_values"
"""Counter: values of summaries sent. Attributes: pipeline, field (the first 64; the rest is `other`), what (present,
missing, invalid, outlier, repaired)."""
QUALITY_ROLLED: Final = "lepton_ingest_quality_rolled_up"
"""Counter: summaries merged into roll-ups. Attributes: pipeline, outcome (merged, known)."""

# Trainer.
TRAINING_RUNS: Final = "lepton_trainer_runs"
"""Counter: runs that ended. Attributes: model, state (succeeded, rejected, failed, cancelled)."""
TRAINING_RUN_SECONDS: Final = "lepton_trainer_run_seconds"
"""Histogram: length of a run. Attribute: model."""

STREAM_FIGURE: Final = "lepton_trainer_stream_figure"
"""Measurement: a prequential figure of the learner of a stream. Attributes: pipeline, figure (accuracy, rmse, ... over
all rows and `fading_...`; `baseline_...`; rows; left_out; waiting_rows; waiting_labels)."""

# Predictor.
PREDICTION_REQUESTS: Final = "lepton_predictor_requests"
"""Counter: requests answered. Attributes: model, version, outcome (ok, or the name of the error)."""
PREDICTION_SECONDS: Final = "lepton_predictor_request_seconds"
"""Histogram: from a request's arrival to its answer, of a bounded sample. Attribute: model."""
BATCHES: Final = "lepton_predictor_batches"
"""Counter: batches of requests run. Attribute: model."""
BATCH_ROWS: Final = "lepton_predictor_batch_rows"
"""Counter: rows run in them; by the number of batches it is the mean batch. Attribute: model."""
WAITING_ROWS: Final = "lepton_predictor_waiting_rows"
"""Gauge: rows of requests that wait for a batch."""
SCORED_ROWS: Final = "lepton_predictor_scored_rows"
"""Counter: streamed rows answered. Attributes: model, version."""
ROWS_WITHOUT_MODEL: Final = "lepton_predictor_rows_without_model"
"""Counter: streamed rows passed over because their pipeline had no champion. Attribute: pipeline."""
MODEL_VERSION: Final = "lepton_predictor_model_version"
"""Gauge: version that answers. Attributes: model, provider."""
PROVIDER: Final = "lepton_predictor_provider"
"""Gauge: 1 for the execution provider models run on. Attribute: provider."""
LOG_DROPPED: Final = "lepton_predictor_log_dropped"
"""Counter: answers to requests the sampled log had no room for. Attribute: model."""
MODELS_REFUSED: Final = "lepton_predictor_models_refused"
"""Counter: versions not loaded: signature, digest or operators did not hold. Attribute: model."""

# Gateway.
HTTP_REQUESTS: Final = "lepton_gateway_requests"
"""Counter: requests answered. Attributes: route, method, status."""
HTTP_SECONDS: Final = "lepton_gateway_request_seconds"
"""Histogram: length of a request. Attributes: route, method."""
EVENTS_POSTED: Final = "lepton_gateway_events"
"""Counter: events made durable for their senders. Attribute: pipeline."""

# Watchdog and actuator.
INCIDENTS: Final = "lepton_watchdog_incidents"
"""Counter: incidents by the state they reached. Attributes: symptom, state."""
COMMANDS: Final = "lepton_watchdog_commands"
"""Counter: recovery commands issued. Attribute: action."""
RESTARTS: Final = "lepton_actuator_restarts"
"""Counter: restarts carried out. Attribute: unit."""

# Attributes of metrics and spans.
PIPELINE: Final = "pipeline"
MODEL: Final = "model"
VERSION: Final = "version"
SPAN_EVENT_ID: Final = "lepton.event_id"
SPAN_PIPELINE: Final = "lepton.pipeline"
SPAN_MODEL: Final = "lepton.model"
SPAN_VERSION: Final = "lepton.model_version"
SPAN_ROWS: Final = "lepton.rows"
SPAN_RUN: Final = "lepton.run_id"
SPAN_COMMAND: Final = "lepton.command_id"
SPAN_INCIDENT: Final = "lepton.incident_id"

# Span names. Spans of the bus are `send <topic>` and `process <topic>`, those of the doors the route or the call.
SPAN_ACCEPT: Final = "accept event"
SPAN_SCORE: Final = "score"
SPAN_TRAIN: Final = "train"
SPAN_LOAD_MODEL: Final = "load model"
