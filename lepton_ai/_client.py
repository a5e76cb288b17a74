"""The verbs of the SDK for programs without an event loop, and for notebooks that already run one."""

import asyncio
import builtins
import sys
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from rich.console import Console
from rich.live import Live

from lepton.clock import Clock
from lepton_ai import _credentials, _progress
from lepton_ai._async_client import AsyncLeptonClient
from lepton_ai._data import Dataset
from lepton_ai._datasets.sync import Datasets
from lepton_ai._datasets.told import Snapshot
from lepton_ai._files.uploading import OnProgress, Upload
from lepton_ai._models import Deployment, Model, Row, SyncDeployment
from lepton_ai._monitor.health import Health
from lepton_ai._runs.sync import Runs

Answer = TypeVar("Answer")
REFRESH_S: Final = 1.0


class LeptonClient:
    """Lepton as one caller sees it; see `AsyncLeptonClient` for what the verbs promise.

    Its calls run on an event loop of its own in a thread of its own, so it also works where a loop runs already. It may
    be shared by threads. `close` (or `with`) ends both; a program that forgets is cleaned up after.
    """

    def __init__(self, key: str = _credentials.KEY, secret: str = _credentials.SECRET,
                 region: str = _credentials.REGION, *, progress: _progress.Progress | None = None,
                 clock: Clock | None = None) -> None:
        self._client = AsyncLeptonClient(key, secret, region, progress=progress, clock=clock)
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="lepton-client", daemon=True)
        thread.start()
        self._end = weakref.finalize(self, _end, self._client, self._loop, thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._end()

    @property
    def datasets(self) -> Datasets:
        """What is stored of each pipeline: profiles, snapshots, splits, files, corrections, erasure."""
        return Datasets(self._client.datasets, self._run)

    @property
    def runs(self) -> Runs:
        """Training runs: asked for, followed live, cancelled."""
        return Runs(self._client.runs, self._run)

    def load_data(self, source: str | Path | Sequence[Row], *, label: str | None = None,
                  name: str | None = None) -> Dataset:
        """A data set that is already loaded under the name, else the rows of the file of that name, else rows given."""
        return self._run(self._client.load_data(source, label=label, name=name))

    def upload(self, pipeline: str, path: str | Path, on_progress: OnProgress | None = None, *,
               name: str | None = None, delimiter: str | None = None) -> Upload:
        """Send a CSV, JSONL or Parquet file into a pipeline; the same call again goes on where it was left.

        `on_progress` is called in the client's own thread.
        """
        return self._run(self._client.upload(pipeline, path, on_progress, name=name, delimiter=delimiter))

    def send(self, pipeline: str, events: Any) -> int:
        """Send events (a pyarrow, pandas or Polars frame, or mappings); how many, once all are durable."""
        return self._run(self._client.send(pipeline, events))

    def data_clean(self, data: Dataset) -> Dataset:
        """The data set under cleaning rules that repair missing values and outliers, with a `report` to read."""
        return self._run(self._client.data_clean(data))

    def train_model(self, family: str, data: Dataset | Snapshot, *,
                    parameters: Mapping[str, Any] | None = None) -> Model:
        """A new version learnt from all rows, or from those of a snapshot. It is not served before `deploy_model`."""
        return self._run(self._client.train_model(family, data, parameters=parameters))

    def fine_tune(self, model: Model, data: str | Path | Dataset | Sequence[Row], *, label: str | None = None,
                  parameters: Mapping[str, Any] | None = None, transfer: Mapping[str, Any] | None = None,
                  own: bool = False) -> Model:
        """A new version that starts from `model` and learns from other rows of the same columns and types.

        With `own` it is a version of the data's own model instead, and columns may be others: those of the same name
        and type are taken over. `transfer` says what may change: `freeze` (patterns of weights), `head` (auto, keep,
        replace), `lora` (rank, alpha, layers).
        """
        return self._run(self._client.fine_tune(model, data, label=label, parameters=parameters, transfer=transfer,
                                                own=own))

    def deploy_model(self, model: Model) -> SyncDeployment:
        """Make the version champion, and return once a predictor answers with it."""
        served = self._run(self._client.deploy_model(model))
        return Deployment(served.model, served.version, served.urls, self.predict)

    def predict(self, model: str | Model | SyncDeployment, rows: Sequence[Row] = (), *,
                over: Literal["rest", "grpc"] = "rest", explain: bool = False, entities: Sequence[str] = (),
                each: bool = False) -> list[dict[str, Any]]:
        """Answers in the order of `rows`, all by one version; with `attributions` where they are to `explain`.

        `entities`: by row, whose newest features fill it up; alone, they are the rows. `each`: rows fail alone.
        """
        return self._run(self._client.predict(_asked(model), rows, over=over, explain=explain, entities=entities,
                                              each=each))

    def feedback(self, model: str, outcomes: Sequence[Mapping[str, Any]] = (),
                 opinions: Sequence[Mapping[str, Any]] = ()) -> list[str]:
        """Say what became true: each with `label`, and `event_id`, or `entity` for its newest event; the event ids.

        `opinions`: what is thought of answers, each with `accepted` or `score` instead of `label`, may be a `reason`.
        """
        return self._run(self._client.feedback(model, outcomes, opinions))

    def monitor_model(self, deployment: SyncDeployment | Model | str) -> Health:
        """Live health in a terminal until Ctrl-C; elsewhere the health of the moment, printed unless in a notebook.

        A notebook shows the returned value as a picture.
        """
        if in_notebook():
            return self.health(deployment)
        console = Console()
        health = self.health(deployment)
        if not (sys.stdin is not None and sys.stdin.isatty() and console.is_terminal):
            sys.stdout.write(f"{health}\n")
            return health
        return self._watch(deployment, health, console)

    def health(self, deployment: SyncDeployment | Model | str) -> Health:
        """The health of the moment, without showing it."""
        return self._run(self._client.monitor_model(_asked(deployment)))

    def export_pipeline(self, data: Dataset | Model | str) -> str:
        """The Pipeline as YAML, every default written out, ready for `lepton apply`."""
        return self._run(self._client.export_pipeline(data))

    def starter(self, name: str) -> Model:
        """A served model to begin with (breast-cancer, wine, diabetes, digits), learnt from bundled data at first."""
        return self._run(self._client.starter(name))

    def import_model(self, source: Any, pipeline: str, *, classes: Sequence[str] = (), promote: bool = False) -> Model:
        """A version trained elsewhere: the path of an ONNX file, or a fitted scikit-learn estimator."""
        return self._run(self._client.import_model(source, pipeline, classes=classes, promote=promote))

    def export_model(self, model: Model, file: str | Path) -> Path:
        """Write the version as one signed zip archive that runs offline with onnxruntime alone."""
        return self._run(self._client.export_model(model, file))

    def _watch(self, deployment: SyncDeployment | Model | str, health: Health, console: Console) -> Health:
        pause = threading.Event()
        with Live(health, console=console, auto_refresh=False) as live:
            try:
                while not pause.wait(REFRESH_S):
                    health = self.health(deployment)
                    live.update(health, refresh=True)
            except KeyboardInterrupt:
                return health
        return health

    def _run(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        waiting = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return waiting.result()
        except BaseException:
            # Ctrl-C while waiting: what runs in the other thread must not go on unseen.
            waiting.cancel()
            raise


def in_notebook() -> bool:
    """Whether this runs where values are shown as pictures (Jupyter), not in a terminal's IPython."""
    shell = getattr(builtins, "get_ipython", None)
    return shell is not None and type(shell()).__name__ == "ZMQInteractiveShell"


def _asked(model: str | Model | SyncDeployment) -> str | Model:
    """A deployment by what it deploys, since its `predict` is of the other kind."""
    if isinstance(model, Deployment):
        return Model(model.model, model.version, family="", metrics={})
    return model


def _end(client: AsyncLeptonClient, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if threading.current_thread() is thread:
        # The collector may run anywhere, here too, and a thread cannot wait for itself.
        loop.stop()
        return
    asyncio.run_coroutine_threadsafe(client.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
