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
MEMORY_SHARE: Final = "process_memory_share"
"""Measurement: resident memory as a share of what this process may use (its control group's limit, or the machine); or
what it has reserved as a share of what it may (`ulimit -d`, `ulimit -v`), whichever is larger."""
FILES_SHARE: Final = "process_files_share"
"""Measurement: open file handles as a share of how many it may open."""
HOST_CPU_SHARE: Final = "host_cpu_share"
"""Measurement, every two seconds: processors in use on the whole machine; 1.0 is all of them. Attribute: host."""
HOST_MEMORY_SHARE: Final = "host_memory_share"
"""Measurement, every two seconds: memory of the machine that is not available. Attribute: host."""
HOST_DISK_SHARE: Final = "host_disk_share"
"""Measurement, every two seconds: used part of the file system of the state folder. Attribute: host."""
CERTIFICATE_DAYS: Final = "certificate_days"
"""Measurement: days for which it still holds, below 0 where it has expired. Attribute: certificate
(`signing-key/ROLE`: the keys trusted to act in a role; `kafka-authority`: that of the brokers' certificates)."""
HOST_GPU_SHARE: Final = "host_gpu_share"
"""Measurement, every two seconds: part of the time in which a GPU was at work. Attribute: gpu (`HOST/INDEX`)."""
HOST_GPU_MEMORY_SHARE: Final = "host_gpu_memory_share"
"""Measurement, every two seconds: memory of a GPU that is in use. Attribute: gpu (`HOST/INDEX`)."""
CONSUMER_LAG: Final = "lepton_consumer_lag"
"""Measurement, once a second: records of a topic that wait for this process, in its partitions. Attribute: topic."""
DATABASE_SECONDS: Final = "lepton_database_seconds"
"""Measurement, once a second: how long the database took to answer, or has taken so far; at least 5 s of a failure."""
UNREACHED_SECONDS: Final = "lepton_gateway_unreached_seconds"
"""Measurement of gateways, once a second: how long calls to a predictor have had no answer; 0 once one has. Attribute:
predictor."""
LOST_DOCUMENTS: Final = "lepton_watchdog_lost_documents"
"""Measurement of watchdogs, every five seconds: what was announced and the database has no document of. Attribute:
collection (pipelines, models)."""
BACKUP_AGE_HOURS: Final = "lepton_actuator_backup_age_hours"
"""Measurement of actuators, every five seconds where backups are kept: how old the newest is. Attribute: backup (its
name)."""

# Ingest.
INGEST_ROWS: Final = "lepton_ingest_rows"
"""Counter: rows judged. Attributes: pipeline, verdict (accepted, rejected, duplicate, quarantined)."""
INGEST_LABELS: Final = "lepton_ingest_labels"
"""Counter: late labels judged. Attributes: pipeline, verdict (accepted, rejected, duplicate)."""
PAUSED: Final = "lepton_ingest_paused"
"""Measurement, every two seconds: 1 while a pipeline is paused, 0 after. Attribute: pipeline."""
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
LEVEL_REQUESTS: Final = "lepton_predictor_level_requests"
"""Count in heartbeats: requests of models that have priority levels, those that got no answer too. Attributes: model,
level, named (`true`: the request named it; `false`: it is the default)."""
SHED_REQUESTS: Final = "lepton_predictor_shed_requests"
"""Counter: requests turned away for their low priority, while a recovery command says so. Attributes: model, level."""
SHEDDING: Final = "lepton_predictor_shedding"
"""Gauge, while a recovery command says so: the last priority level that is answered. Attribute: model (`*`: all)."""
PREDICTION_SECONDS: Final = "lepton_predictor_request_seconds"
"""Histogram: from a request's arrival to its answer, of a bounded sample. Attribute: model."""
PREDICTION_TIMES: Final = "lepton_predictor_request_times"
"""Count in heartbeats: requests that went well, of a bounded sample. Attributes: model, up_to_ms (the least length of
those the Pipeline's `watch.slo` may name that it took no longer than; `more` where there is none)."""
WIRE_REQUESTS: Final = "lepton_predictor_wire_requests"
"""Counter: those of the requests answered that the native wire answered by itself. Attribute: model."""
BATCHES: Final = "lepton_predictor_batches"
"""Counter: batches of requests run. Attribute: model."""
BATCH_ROWS: Final = "lepton_predictor_batch_rows"
"""Counter: rows run in them; by the number of batches it is the mean batch. Attribute: model."""
WAITING_ROWS: Final = "lepton_predictor_waiting_rows"
"""Gauge: rows of requests that wait for a batch."""
ENTITIES: Final = "lepton_predictor_entities"
"""Gauge: entities whose newest row is remembered for requests that name them. Attribute: pipeline."""
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

UNSOUND_ROWS: Final = "lepton_predictor_unsound_rows"
"""Counter and measurement: rows that a version answered with what is no number. Attributes: model, version."""
REFUSED_VERSION: Final = "lepton_predictor_refused_version"
"""Measurement, for as long as it lasts: the version the registry names champion and this process cannot load, because
it does not hold. Attributes: model, reason, lost (the SHA-256 of its file where that is whole neither here nor in the
store; else empty)."""

# Predictor, in Triton's words: exposed as they stand, without `_total`, in /metrics alone. Attributes of all but the
# machine's: model, version.
NV_REQUEST_SUCCESS: Final = "nv_inference_request_success"
"""Counter: requests answered."""
NV_REQUEST_FAILURE: Final = "nv_inference_request_failure"
"""Counter: requests not answered. Attribute besides: reason (REJECTED, CANCELED, BACKEND, OTHER)."""
NV_COUNT: Final = "nv_inference_count"
"""Counter: rows of requests answered."""
NV_EXEC_COUNT: Final = "nv_inference_exec_count"
"""Counter: batches run."""
NV_REQUEST_DURATION: Final = "nv_inference_request_duration_us"
"""Counter: microseconds of requests from arrival to answer, those that failed too."""
NV_QUEUE_DURATION: Final = "nv_inference_queue_duration_us"
"""Counter: microseconds that requests answered waited for their batch."""
NV_INPUT_DURATION: Final = "nv_inference_compute_input_duration_us"
"""Counter: microseconds of reading requests and joining them."""
NV_INFER_DURATION: Final = "nv_inference_compute_infer_duration_us"
"""Counter: microseconds of running the model, a batch's for each of its requests."""
NV_OUTPUT_DURATION: Final = "nv_inference_compute_output_duration_us"
"""Counter: microseconds of writing answers."""
NV_PENDING: Final = "nv_inference_pending_request_count"
"""Gauge: requests that wait for a batch."""
NV_CPU_UTILIZATION: Final = "nv_cpu_utilization"
"""Gauge: share of the machine's processors in use since the look before, 0 to 1."""
NV_CPU_MEMORY_TOTAL: Final = "nv_cpu_memory_total_bytes"
"""Gauge: the machine's memory."""
NV_CPU_MEMORY_USED: Final = "nv_cpu_memory_used_bytes"
"""Gauge: of that what is in use."""

# Gateway.
HTTP_REQUESTS: Final = "lepton_gateway_requests"
"""Counter: requests answered. Attributes: route, method, status."""
HTTP_SECONDS: Final = "lepton_gateway_request_seconds"
"""Histogram: length of a request. Attributes: route, method."""
KEY_REQUESTS: Final = "lepton_gateway_key_requests"
"""Count in heartbeats: predictions asked for. Attributes: model, key (id of the API key, for the five that asked most;
the others together have an empty one)."""
KEY_THROTTLED: Final = "lepton_gateway_key_throttled"
"""Count in heartbeats: requests refused because their key is throttled. Attribute: key (its id)."""
EVENTS_POSTED: Final = "lepton_gateway_events"
"""Counter: events made durable for their senders. Attribute: pipeline."""

# Watchdog and actuator.
INCIDENTS: Final = "lepton_watchdog_incidents"
"""Counter: incidents by the state they reached. Attributes: symptom, state."""
COMMANDS: Final = "lepton_watchdog_commands"
"""Counter: recovery commands issued. Attribute: action."""
NOTICES: Final = "lepton_watchdog_notices"
"""Counter: messages to people, by what became of each try. Attributes: outcome, scheme.

Outcomes: sent, failed (it is tried again), given_up, left_out.
"""
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
SPAN_REQUESTS: Final = "lepton.requests"
SPAN_RUN: Final = "lepton.run_id"
SPAN_COMMAND: Final = "lepton.command_id"
SPAN_INCIDENT: Final = "lepton.incident_id"

# Span names. Spans of the bus are `send <topic>` and `process <topic>`, those of the doors the route or the call.
SPAN_ACCEPT: Final = "accept event"
SPAN_SCORE: Final = "score"
SPAN_BATCH: Final = "batch"
"""One run of a model for requests: linked to theirs, child of the first. Theirs have the children `input`, `queue`,
`infer` (linked to the batch) and `output`."""
SPAN_TRAIN: Final = "train"
SPAN_LOAD_MODEL: Final = "load model"
