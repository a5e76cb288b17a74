"""The verbs of the SDK, for programs that run an event loop; `LeptonClient` offers the same to those that do not."""

import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from lepton.clock import Clock
from lepton.errors import Missing, Unavailable
from lepton_ai import _credentials, _infer, _models, _progress, _report, _sending
from lepton_ai._data import Dataset, Rows, field_name, from_rows
from lepton_ai._datasets.told import Snapshot
from lepton_ai._datasets.verbs import AsyncDatasets
from lepton_ai._files.uploading import OnProgress, Upload, Uploading
from lepton_ai._library import exporting, importing, starters
from lepton_ai._loading import Loading
from lepton_ai._models import AsyncDeployment, Deployment, Model, Row, Run
from lepton_ai._monitor.health import Health, health_from
from lepton_ai._monitor.traffic import Looks
from lepton_ai._predicting.messages import Question
from lepton_ai._runs import serving
from lepton_ai._runs.verbs import AsyncRuns
from lepton_ai._transport import Transport

_POLL_S: Final = 0.25
# A run queued behind others may wait long; one that says nothing at all for this long is not coming.
QUEUE_S: Final = 600.0
SERVED_S: Final = 60.0
SUMMARIES: Final = 10


class AsyncLeptonClient:
    """Lepton as one caller sees it.

    Args:
        key, secret, region: each a value, or the name of an environment variable or of an entry in the credentials
            file that `make up` writes.
        progress: where the state of long calls is shown; a terminal's stderr by default.
    """

    def __init__(self, key: str = _credentials.KEY, secret: str = _credentials.SECRET,
                 region: str = _credentials.REGION, *, progress: _progress.Progress | None = None,
                 clock: Clock | None = None) -> None:
        self._transport = Transport(_credentials.resolve(key, secret, region), clock)
        self._progress = progress or _progress.default()
        self._loading = Loading(self._transport, self._progress)
        self._looks = Looks(self._transport.clock)
        self._datasets = AsyncDatasets(self._transport, self._progress)
        self._runs = AsyncRuns(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    @property
    def transport(self) -> Transport:
        """For calls this client has no verb for."""
        return self._transport

    @property
    def datasets(self) -> AsyncDatasets:
        """What is stored of each pipeline: profiles, snapshots, splits, files, corrections, erasure."""
        return self._datasets

    @property
    def runs(self) -> AsyncRuns:
        """Training runs: asked for, followed live, cancelled."""
        return self._runs

    async def load_data(self, source: str | Path | Sequence[Row], *, label: str | None = None,
                        name: str | None = None) -> Dataset:
        """A data set that is already loaded under the name, else the rows of the file of that name, else rows given.

        The label is `label`, else a column label, target or y, else the last column. Returns once every row is stored
        or refused; the same rows again are not sent twice. Raises Missing, Invalid, Unavailable.
        """
        given = source if isinstance(source, str | Path) else from_rows(source)
        return await self._loading.load(given, name, label)

    async def upload(self, pipeline: str, path: str | Path, on_progress: OnProgress | None = None, *,
                     name: str | None = None, delimiter: str | None = None) -> Upload:
        """Send a CSV, JSONL or Parquet file into a pipeline; returns once every row of it is durable.

        It may be interrupted anywhere, here or there: the same call again goes on, and no row is skipped or counts
        twice. `on_progress` is told after each piece. Raises Missing, Invalid, Refused, Unavailable.
        """
        return await Uploading(self._transport).upload(pipeline, Path(path), on_progress, name=name,
                                                       delimiter=delimiter)

    async def send(self, pipeline: str, events: Any) -> int:
        """Send events to a pipeline that was applied; returns how many, once all are durable on the log.

        `events`: a pyarrow Table, a pandas or Polars frame, or anything else that offers Arrow streams, with a column
        for each member of an event; or a sequence of mappings. What ingest makes of each row is seen in its dead
        letters. Raises Invalid naming the column or row that can never be accepted, Missing, Refused, Unavailable.
        """
        return await _sending.send(self._transport, pipeline, events)

    async def data_clean(self, data: Dataset) -> Dataset:
        """The data set under cleaning rules that repair missing values and outliers, with a `report` to read."""
        path = f"/v1/pipelines/{data.pipeline}"
        spec = (await self._transport.get(path))["spec"]
        if _infer.is_derived(spec):
            spec = _infer.cleaned(spec)
            await self._transport.post("/v1/pipelines", spec)
        refused = await self._loading.refused(path)
        accepted = int((await self._transport.get(f"{path}/rows"))["accepted"])
        rows = data.rows
        if rows is not None:
            fields, source = _report.from_rows(rows, spec), f"{len(rows)} rows"
        else:
            fields, source = _report.from_statistics(await self._statistics(data.pipeline), spec), "the champion's data"
        report = _report.CleaningReport(
            dataset=data.name, pipeline=data.pipeline, label=f"{data.label} ({data.label_because})",
            rows=len(rows) if rows else None, accepted=accepted, rejected=len(rows) - accepted if rows else None,
            identical=_report.identical_rows(rows) if rows else None, fields=fields, rejections=refused,
            notes=rows.notes if rows else ("the rows are not at hand: only what a trained version froze is known",),
            source=source)
        return Dataset(data.name, data.pipeline, data.label, data.label_because, accepted, data.fields, rows, report)

    async def train_model(self, family: str, data: Dataset | Snapshot, *,
                          parameters: Mapping[str, Any] | None = None) -> Model:
        """A new version learnt from all rows, or from those of a snapshot. It is not served before `deploy_model`.

        Raises Invalid (family, parameters or data do not fit, with the remedy), Unavailable.
        """
        if isinstance(data, Snapshot):
            return await self._train(data.pipeline, {"kind": "train", "family": family, "snapshot": data.id,
                                                     "parameters": parameters or {}})
        task = _infer.task_for(family)
        spec = (await self._transport.get(f"/v1/pipelines/{data.pipeline}"))["spec"]
        if task is not None and task != _infer.task_of(spec):
            clean = spec["clean"]
            data = await self._loading.variant(data, task)
            spec = {**(await self._transport.get(f"/v1/pipelines/{data.pipeline}"))["spec"], "clean": clean}
            await self._transport.post("/v1/pipelines", spec)
        return await self._train(data.pipeline, {"kind": "train", "family": family, "parameters": parameters or {}})

    async def fine_tune(self, model: Model, data: str | Path | Dataset | Sequence[Row], *, label: str | None = None,
                        parameters: Mapping[str, Any] | None = None, transfer: Mapping[str, Any] | None = None,
                        own: bool = False) -> Model:
        """A new version that starts from `model` and learns from other rows of the same columns and types.

        With `own` it is a version of the data's own model instead, and columns may be others: those of the same name
        and type are taken over. `transfer` says what may change: `freeze` (patterns of weights), `head` (auto, keep,
        replace), `lora` (rank, alpha, layers).
        """
        asked = {"kind": "fine_tune", "family": model.family, "parameters": dict(parameters or {}),
                 "parent_version": model.version, "transfer": dict(transfer or {})}
        if own:
            theirs = data if isinstance(data, Dataset) else await self.load_data(data, label=label)
            return await self._train(theirs.pipeline, {**asked, "parent_model": model.name})
        spec = (await self._transport.get(f"/v1/pipelines/{model.name}"))["spec"]
        if isinstance(data, Dataset):
            loaded = data if data.rows is None else await self._loading.load(data.rows, data.name, label, spec)
        else:
            source: str | Path | Rows = data if isinstance(data, str | Path) else from_rows(data)
            loaded = await self._loading.load(source, None, label, spec)
        return await self._train(model.name, {**asked, "data_pipeline": loaded.pipeline})

    async def deploy_model(self, model: Model) -> AsyncDeployment:
        """Make the version champion, and return once a predictor answers with it. Raises Refused, Unavailable."""
        await self._promote(model)
        return Deployment(model.name, model.version, self._urls(model.name), self.predict)

    async def predict(self, model: str | Model | AsyncDeployment, rows: Sequence[Row] = (), *,
                      over: Literal["rest", "grpc"] = "rest", explain: bool = False, entities: Sequence[str] = (),
                      each: bool = False) -> list[dict[str, Any]]:
        """Answers in the order of `rows`, all by one version. Names may be those of fields or of columns.

        Bytes, as of a PNG where the field has pixels, are sent as base64.
        `explain`: with `attributions`, what each field did; Invalid from a version that cannot say. `entities`: by
        row, whose newest features stand where the row names no field; without rows, they are the rows. `each`: a row
        that cannot be answered has an `error` instead of failing the call.
        """
        name = model if isinstance(model, str) else model.model if isinstance(model, Deployment) else model.name
        version = 0 if isinstance(model, str) else model.version
        named = [{field_name(column): base64.b64encode(value).decode() if isinstance(value, bytes) else value
                  for column, value in row.items()} for row in rows]
        question = Question(name, named, version, explain, entities, each)
        if over == "grpc":
            return await self._transport.predict(question)
        return list((await self._transport.post(f"/v1/models/{name}/predict", question.body()))["rows"])

    async def feedback(self, model: str, outcomes: Sequence[Mapping[str, Any]] = (),
                       opinions: Sequence[Mapping[str, Any]] = ()) -> list[str]:
        """Say what became true: each with `label`, and `event_id`, or `entity` (and `at`) for its newest event.

        `opinions`: what is thought of answers, each with `accepted` or `score` (-1 to 1, below 0 a rejection), may be
        a `reason` (500 characters) and the `version` that answered; no model learns from them.
        Returns the event ids, of outcomes first, once all are durable; the same again changes nothing. Raises Missing,
        Invalid, Refused.
        """
        body = {name: list(said) for name, said in (("outcomes", outcomes), ("opinions", opinions)) if said}
        told = await self._transport.post(f"/v1/models/{model}/feedback", body)
        return [*told["event_ids"], *told.get("opinion_event_ids", [])]

    async def monitor_model(self, deployment: AsyncDeployment | Model | str) -> Health:
        """The health of a deployment at this moment: a text, and a picture where a notebook shows it."""
        name = deployment if isinstance(deployment, str) else (
            deployment.model if isinstance(deployment, Deployment) else deployment.name)
        state = await self._transport.get(f"/v1/models/{name}")
        version = int(state["champion"]) if isinstance(deployment, str) else deployment.version
        summaries = await self._transport.get(f"/v1/pipelines/{name}/quality", limit=SUMMARIES)
        health = health_from(name, version, state, await self._transport.get("/v1/status"), summaries)
        return replace(health, traffic=await self._looks.look(name, await self._transport.get("/v1/instances")))

    async def export_pipeline(self, data: Dataset | Model | str) -> str:
        """The Pipeline as YAML, every default written out, ready for `lepton apply`."""
        name = data if isinstance(data, str) else data.pipeline if isinstance(data, Dataset) else data.name
        return await self._transport.text(f"/v1/pipelines/{name}/export")

    async def starter(self, name: str) -> Model:
        """A served model to begin with, learnt from bundled data: made at the first call, then the one there is.

        Raises Invalid for a name that is none, Missing without scikit-learn on this machine.
        """
        made = starters.described(name)
        found = await starters.known(self._transport, made.name)
        if found is None:
            await self._loading.send(made)
            found = await self._train(made.name, {"kind": "train", "family": made.spec["model"]["family"]})
            await self._promote(found)
            await self._transport.post(f"/v1/models/{made.name}/versions/{found.version}/tags",
                                       {"tags": {"starter": name}})
        return found

    async def import_model(self, source: Any, pipeline: str, *, classes: Sequence[str] = (),
                           promote: bool = False) -> Model:
        """A version of the pipeline's model that was trained elsewhere, measured on its rows and gated like any other.

        `source` is the path of an ONNX or `.keras` file, whose probabilities are of `classes` in this order (the
        Pipeline's order, when left out), or a fitted scikit-learn estimator, turned into ONNX here. Raises Invalid,
        Missing, Refused, Unavailable.
        """
        if isinstance(source, str | Path):
            brought = importing.of_file(Path(source), classes)
        else:
            spec = (await self._transport.get(f"/v1/pipelines/{pipeline}"))["spec"]
            brought = importing.of_estimator(source, _infer.inputs_of(spec))
        run_id = await importing.ask(self._transport, pipeline, brought, f"sdk-{uuid.uuid4().hex}", promote)
        return await self._version_of(pipeline, await self._ended(run_id))

    async def export_model(self, model: Model, file: str | Path) -> Path:
        """Write the version as one signed zip archive that runs offline with onnxruntime alone. Raises Missing."""
        await exporting.export(self._transport, model.name, model.version, Path(file))
        return Path(file)

    async def _train(self, model: str, wanted: Mapping[str, Any]) -> Model:
        # Named here, so that the call can be repeated when its answer is lost.
        command = {**wanted, "promote": False, "command_id": f"sdk-{uuid.uuid4().hex}"}
        asked = await self._transport.post(f"/v1/models/{model}/train", command)
        return await self._version_of(model, await self._ended(str(asked["run_id"])))

    async def _version_of(self, model: str, run: Run) -> Model:
        """What the run published. Raises what became of it instead."""
        if run.state != "succeeded":
            raise serving.not_trained(run)
        state = await self._await_version(model, run.version)
        found = _models.model_from(state, run.version)
        self._progress.done(str(found))
        return found

    async def _ended(self, run_id: str) -> Run:
        clock = self._transport.clock
        moved_at, before = clock.monotonic(), None
        while True:
            run = _models.run_from(await self._transport.get(f"/v1/runs/{run_id}"))
            if run.ended:
                return run
            if run != before:
                before, moved_at = run, clock.monotonic()
            elif clock.monotonic() - moved_at > QUEUE_S:
                raise Unavailable(f"run {run_id} is {run.state} and does not move", remedy="see `lepton status`")
            self._progress.show(f"{run.state}" + (f", epoch {run.epoch} of {run.epochs}" if run.epochs else ""))
            await clock.sleep(_POLL_S)

    async def _await_version(self, model: str, version: int) -> Mapping[str, Any]:
        """The model's state once it lists the version: the registry's announcement follows the run's end."""
        clock = self._transport.clock
        deadline = clock.monotonic() + SERVED_S
        while True:
            try:
                state: Mapping[str, Any] = await self._transport.get(f"/v1/models/{model}")
                _models.model_from(state, version)
            except Missing:
                if clock.monotonic() > deadline:
                    raise
            else:
                return state
            await clock.sleep(_POLL_S)

    async def _promote(self, model: Model) -> None:
        clock = self._transport.clock
        await self._transport.post(f"/v1/models/{model.name}/promote", {"version": model.version})
        deadline = clock.monotonic() + SERVED_S
        while True:
            if await serving.answers_with(self._transport, model.name, model.version):
                self._progress.done(f"{model.name} version {model.version} is served")
                return
            if clock.monotonic() > deadline:
                raise Unavailable(f"no predictor answers with {model.name} version {model.version} yet",
                                  remedy="see `lepton status` and `lepton incidents`")
            self._progress.show(f"{model.name} version {model.version} is being loaded")
            await clock.sleep(_POLL_S)

    async def _statistics(self, model: str) -> Sequence[Mapping[str, Any]]:
        try:
            return _models.statistics_of(await self._transport.get(f"/v1/models/{model}"))
        except Missing:
            return []

    def _urls(self, model: str) -> dict[str, str]:
        credentials = self._transport.credentials
        urls = {"predict": f"{credentials.rest}/v1/models/{model}/predict",
                "open inference": f"{credentials.rest}/v2/models/{model}/infer"}
        return {**urls, "grpc": credentials.grpc} if credentials.grpc else urls
