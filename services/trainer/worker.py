"""The process of one run: what torch elastic is started with, and what it starts.

    python -m services.trainer.worker launch RUN_DIR PARENT_PID     torch elastic, one worker on this machine
    python -m services.trainer.worker train RUN_DIR PARENT_PID      the worker: RUN_DIR in, RUN_DIR out
    python -m services.trainer.worker stream - PARENT_PID           a stream's learner: frames in, frames out

In: plan.json, data.arrow, and what the plan names (parent.npz, champion.onnx, imported.onnx); search.json and
checkpoint.npz when the run was begun before. Out: progress.jsonl while it goes; then model.onnx, weights.npz, card.zip
and, last, result.json; or failure.json.
Heavy libraries are imported inside the functions, so that the process is bound to its parent before it does anything.
"""

import ctypes
import json
import logging
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.trainer.core.learning import Given, Learned
    from services.trainer.core.plan import Plan

PLAN, DATA, PARENT, CHAMPION, CHECKPOINT = "plan.json", "data.arrow", "parent.npz", "champion.onnx", "checkpoint.npz"
SEARCH = "search.json"
PROGRESS, RESULT, FAILURE = "progress.jsonl", "result.json", "failure.json"
MODEL, WEIGHTS, CARD = "model.onnx", "weights.npz", "card.zip"

STREAM, IMPORTED = "stream.npz", "imported.onnx"
FRAME = struct.Struct("!QQ")

_PR_SET_PDEATHSIG = 1
# Serving and ingest go before learning.
_NICE = 5

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Exit code 0 also for a run that failed: its failure is then an answer, in failure.json."""
    if len(arguments) != 3 or arguments[0] not in ("launch", "train", "stream"):
        sys.stderr.write("usage: python -m services.trainer.worker launch|train|stream RUN_DIR PARENT_PID\n")
        return 2
    mode, folder, parent = arguments[0], Path(arguments[1]), int(arguments[2])
    if not die_with(parent):
        return 1
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if mode == "stream":
        return stream()
    return launch(folder) if mode == "launch" else train(folder)


def die_with(parent: int) -> bool:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere it may outlive it until its run ends).

    False when the parent is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def launch(folder: Path) -> int:
    """Torch elastic for one worker, without a listening socket: they meet through a file of the run's folder."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    # Else elastic opens a store on every address of the machine; one process needs none.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # noqa: TID251  torch's only way to be told
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    meeting = folder / f"meeting-{os.getpid()}"
    try:
        run.main(["--nnodes=1", "--nproc-per-node=1", "--max-restarts=0", "--rdzv-backend=c10d",
                  f"--rdzv-endpoint={meeting}", "--rdzv-conf=store_type=file", f"--rdzv-id={folder.name}",
                  f"--log-dir={folder / 'elastic'}", "--module", "services.trainer.worker", "train", str(folder),
                  str(os.getpid())])
    except ChildFailedError as error:
        first = error.get_first_failure()[1]
        log.error("the worker ended with exit code %d", first.exitcode)
        return 1
    return 0


def train(folder: Path) -> int:
    """Run what the folder's plan says, from its checkpoint when there is one."""
    from services.trainer.core.failure import of_error

    try:
        _finish(folder, *_learn(folder))
    except Exception as error:
        failure = of_error(error)
        log.error("the run failed: %s", failure.message, exc_info=failure.failure_class == "internal")
        _write(folder / FAILURE, json.dumps({"class": failure.failure_class, "name": failure.name,
                                             "message": failure.message, "remedy": failure.remedy}).encode())
    return 0


def stream() -> int:
    """Answer frames until there are no more. A frame: two lengths, a JSON header, bytes.

    `begin` takes a Pipeline and a state, `take` records, `state` and `offered` nothing; `state` answers with the bytes.
    What cannot be begun is answered with `failed`; any other failure ends the process.
    """
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints is not to get between the frames.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if hasattr(os, "nice"):
        os.nice(_NICE)
    from services.trainer.core.streaming.desk import Desk

    desk = Desk(_limit_memory)
    while sizes := source.read(FRAME.size):
        header, payload = (source.read(size) for size in FRAME.unpack(sizes))
        answer, data = desk.answer(json.loads(header), payload)
        text = json.dumps(answer).encode()
        sink.write(FRAME.pack(len(text), len(data)) + text + data)
        sink.flush()
    return 0


def _learn(folder: Path) -> tuple["Plan", "Learned"]:
    from lepton.clock import SystemClock
    from lepton.errors import Invalid
    from services.trainer.core.handlers import Checkpoint, Report, TimeLimit
    from services.trainer.core.learning import learn
    from services.trainer.core.plan import Plan

    plan = Plan.from_json((folder / PLAN).read_bytes())
    _limit_memory(plan.memory_mb)
    given = _given(folder)
    if plan.imported is not None:
        return plan, brought(plan, given, (folder / IMPORTED).read_bytes())
    if plan.stream is not None:
        return plan, _graduated(plan, (folder / STREAM).read_bytes(), given.champion)
    plan = _found(folder, plan, given)

    def attached() -> list[object]:
        return [TimeLimit(SystemClock().monotonic, plan.limit_s), Report(_teller(folder, plan.parameters.epochs)),
                Checkpoint(lambda data: _write(folder / CHECKPOINT, data))]

    try:
        return plan, learn(plan, given, attached())
    except Invalid as error:
        if given.checkpoint is None:
            raise
        log.warning("the checkpoint cannot be used, the run begins anew: %s", error)
        (folder / CHECKPOINT).unlink()
        return plan, learn(plan, _given(folder), attached())


def brought(plan: "Plan", given: "Given", file: bytes) -> "Learned":
    """The candidate that a file from elsewhere is; there are no weights to go on from."""
    from services.trainer.core.importing.imported import take_in
    from services.trainer.core.learning import Learned

    found = take_in(plan, given.rows, given.champion, file)
    return Learned(found.exported, b"", found.preparation, found.target, found.about.metrics,
                   found.about.champion_metrics, found.about.warnings, 0, found.about.held_out_rows, epochs=0,
                   report=found.report)


def _graduated(plan: "Plan", state: bytes, champion: bytes | None) -> "Learned":
    from services.trainer.core.learning import Learned
    from services.trainer.core.streaming.candidate import graduate

    found = graduate(plan, state, champion)
    return Learned(found.exported, found.weights, found.preparation, found.target, found.metrics,
                   found.champion_metrics, (), found.train_rows, found.held_out_rows, epochs=0)


def _found(folder: Path, plan: "Plan", given: "Given") -> "Plan":
    """What is to be learnt, after the search the plan asks for, if it does."""
    if plan.search is None:
        return plan
    from lepton.clock import SystemClock
    from services.trainer.core.searching.search import Notes, find
    from services.trainer.core.searching.trials import attempts

    def tell(stage: str, figures: dict[str, float]) -> None:
        _told(folder, {"epoch": 0, "epochs": 0, "stage": stage, **figures})

    kept = (folder / SEARCH).read_bytes() if (folder / SEARCH).exists() else None
    return find(plan, lambda: attempts(plan, given.rows),
                Notes(kept, lambda data: _write(folder / SEARCH, data), tell, SystemClock().monotonic))


def _given(folder: Path) -> "Given":
    import pyarrow as pa

    from services.trainer.core.learning import Given

    def optional(name: str) -> bytes | None:
        return (folder / name).read_bytes() if (folder / name).exists() else None

    with pa.ipc.open_file(folder / DATA) as reader:
        rows = reader.read_all()
    return Given(rows, optional(PARENT), optional(CHAMPION), optional(CHECKPOINT))


def _finish(folder: Path, plan: "Plan", learned: "Learned") -> None:
    from hashlib import sha256
    from importlib.metadata import PackageNotFoundError, version

    from google.protobuf.json_format import MessageToDict

    from services.trainer.core.learning import manifest
    from services.trainer.core.telling.card import bundle

    try:
        code_version = version("lepton-ai")
    except PackageNotFoundError:
        code_version = "source"
    about = manifest(plan, learned, code_version)
    _write(folder / MODEL, learned.exported.data)
    _write(folder / WEIGHTS, learned.weights)
    # A stream's candidate has none: a card speaks of rows that the version never saw.
    if learned.report:
        card = bundle(learned.report)
        about.card_sha256 = sha256(card).hexdigest()
        _write(folder / CARD, card)
    _write(folder / RESULT, json.dumps({
        "manifest": MessageToDict(about, preserving_proto_field_name=True), "warnings": learned.warnings,
        "epochs": learned.epochs, "compared": learned.champion_metrics is not None}).encode())


def _teller(folder: Path, epochs: int) -> Callable[[int, dict[str, float]], None]:
    def tell(epoch: int, figures: dict[str, float]) -> None:
        _told(folder, {"epoch": epoch, "epochs": epochs, **figures})

    return tell


def _told(folder: Path, line: dict[str, Any]) -> None:
    from lepton.clock import SystemClock

    with (folder / PROGRESS).open("a") as file:
        file.write(json.dumps({**line, "at": SystemClock().now().timestamp()}) + "\n")


def _limit_memory(memory_mb: int) -> None:
    if memory_mb and sys.platform != "win32":
        import resource

        # Private memory only: the libraries' own mappings are shared and large.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20, memory_mb * 2**20))


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, whenever this process is killed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
