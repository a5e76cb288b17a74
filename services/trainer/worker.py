"""The process of one run: what torch elastic is started with, and what it starts.

    python -m services.trainer.worker launch RUN_DIR PARENT_PID     torch elastic, this machine's workers below it
    python -m services.trainer.worker train RUN_DIR PARENT_PID      a worker: RUN_DIR in, RUN_DIR out
    python -m services.trainer.worker stream - PARENT_PID           a stream's learner: frames in, frames out

In: plan.json, data.arrow, and what the plan names (parent.npz, champion.onnx, imported.onnx); search.json and
checkpoint.npz when the run was begun before. Out: progress.jsonl while it goes; then model.onnx, weights.npz, card.zip
and, last, result.json; or failure.json.
Of several workers the first alone writes, but for a failure, which is told by whoever met it.
Heavy libraries are imported inside the functions, so that the process is bound to its parent before it does anything.
"""

import ctypes
import json
import logging
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from services.trainer.core.deadline import Deadline
    from services.trainer.core.learning import Given, Learned
    from services.trainer.core.plan import Plan
    from services.trainer.core.sharing.crew import Crew

PLAN, DATA, PARENT, CHAMPION, CHECKPOINT = "plan.json", "data.arrow", "parent.npz", "champion.onnx", "checkpoint.npz"
SEARCH = "search.json"
PROGRESS, RESULT, FAILURE = "progress.jsonl", "result.json", "failure.json"
MODEL, WEIGHTS, CARD = "model.onnx", "weights.npz", "card.zip"

STREAM, IMPORTED = "stream.npz", "imported.onnx"
MEETING = "PET_RDZV_ENDPOINT"
"""Where several machines meet, `host:port`: torch elastic's own setting."""
FRAME = struct.Struct("!QQ")

_PR_SET_PDEATHSIG = 1
# Serving and ingest go before learning.
_NICE = 5
# How often torch elastic starts the workers of a run anew after one died; then the trainer starts torch elastic anew.
RESTARTS = 2

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
    """Torch elastic for the run's workers on this machine. Where it is alone there is no store on a socket: they meet
    through files of the run's folder. Where PET_RDZV_ENDPOINT says so it meets those of other machines there."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    told = os.environ  # noqa: TID251  torch's own settings, which whoever starts several machines gives
    # Else elastic opens a store on every address of the machine, and a machine that comes later never learns where it
    # is (torch 2.15: the address is published in a rendezvous' first round alone).
    told["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main([*elastic(folder, told), "--module", "services.trainer.worker", "train", str(folder),
                  str(os.getpid())])
    except ChildFailedError as error:
        first = error.get_first_failure()[1]
        log.error("the worker ended with exit code %d", first.exitcode)
        return 1
    return 0


def elastic(folder: Path, told: Mapping[str, str]) -> list[str]:
    """What torch elastic is asked for: a worker a share, unless `told`, torch's own PET_ settings, says how many."""
    try:
        shares = int(json.loads((folder / PLAN).read_bytes())["scale"]["processes"])
    except (OSError, ValueError, KeyError):
        # The worker says what is wrong with the plan.
        shares = 1
    asked = {"PET_NPROC_PER_NODE": f"--nproc-per-node={shares}", "PET_RDZV_BACKEND": "--rdzv-backend=c10d",
             "PET_MAX_RESTARTS": f"--max-restarts={RESTARTS if shares > 1 or MEETING in told else 0}"}
    if MEETING not in told:
        asked |= {"PET_NNODES": "--nnodes=1", MEETING: f"--rdzv-endpoint={folder / f'meeting-{os.getpid()}'}",
                  "PET_RDZV_CONF": "--rdzv-conf=store_type=file"}
    return [*(option for name, option in asked.items() if name not in told),
            f"--rdzv-id={folder.name}", f"--log-dir={folder / 'elastic'}"]


def train(folder: Path) -> int:
    """Run what the folder's plan says, from its checkpoint when there is one. Exit code 1 asks to be started again."""
    from lepton.clock import SystemClock
    from services.trainer.core.deadline import Deadline
    from services.trainer.core.failure import of_error
    from services.trainer.core.plan import Plan
    from services.trainer.core.sharing.crew import PeerLost

    # Else the libraries of a GPU may add in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # noqa: TID251  their only way to be told
    met = False
    try:
        plan = Plan.from_json((folder / PLAN).read_bytes())
        deadline = Deadline(SystemClock().monotonic, plan.limit_s)
        with _crew(folder, plan) as crew:
            met = True
            found = None if crew is None else _learn(folder, plan, crew, deadline)
            if found is not None:
                # Also what has no epochs, as a file from elsewhere, is held to it.
                deadline.check("with its card not made")
                _finish(folder, *found)
    except PeerLost as lost:
        log.warning("another process of the run is gone: %s", lost)
        return 0 if _over(folder) else 1
    except Exception as error:
        failure = of_error(error)
        log.error("the run failed: %s", failure.message, exc_info=failure.failure_class == "internal")
        _write(folder / FAILURE, json.dumps({"class": failure.failure_class, "name": failure.name,
                                             "message": failure.message, "remedy": failure.remedy}).encode())
        # Who waits for this process to come would wait long; those that met it see it go.
        return 0 if met else 1
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


@contextmanager
def _crew(folder: Path, plan: "Plan") -> "Iterator[Crew | None]":
    """This process among those of the run; None where it has nothing to do."""
    from services.trainer.core.sharing.crew import ALONE

    told = os.environ  # noqa: TID251  torch elastic's only way to say who a worker is
    rank, size = int(told.get("RANK", 0)), int(told.get("WORLD_SIZE", 1))
    if size > 1 and _over(folder):
        # The others were started again with one that died after the end, or that could not begin.
        yield None
        return
    device = _device(plan, int(told.get("LOCAL_RANK", 0)))
    if size == 1 or plan.scale.processes == 1:
        yield None if rank else ALONE
        return
    from services.trainer.core.sharing.together import together

    meeting = "env://"
    if told.get("LOCAL_WORLD_SIZE") == told["WORLD_SIZE"]:
        life = f"{os.getppid()}-{told.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        meeting = f"file://{(folder / f'crew-{life}').absolute()}"
        told["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    with together(meeting, rank, size, device) as crew:
        yield crew


def _device(plan: "Plan", local_rank: int) -> "torch.device":
    """Where this process computes. Raises RunFailed where its GPU is not there."""
    import torch

    from services.trainer.core.failure import no_resource

    if plan.device == "cpu":
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise no_resource(f"process {local_rank + 1} of this machine has no GPU: it has {torch.cuda.device_count()}",
                          "lower train.processes, or set LEPTON_TRAINER_DEVICE=cpu", "no_gpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _over(folder: Path) -> bool:
    return (folder / RESULT).exists() or (folder / FAILURE).exists()


def _learn(folder: Path, plan: "Plan", crew: "Crew", deadline: "Deadline") -> tuple["Plan", "Learned"] | None:
    """What was learnt, for the first process of the crew."""
    from lepton.errors import Invalid
    from services.trainer.core.handlers import Checkpoint, Report, TimeLimit
    from services.trainer.core.learning import attend, learn

    _limit_memory(plan.memory_mb)
    given = _given(folder)
    if plan.imported is not None:
        return plan, brought(plan, given, (folder / IMPORTED).read_bytes())
    if plan.stream is not None:
        return plan, _graduated(plan, (folder / STREAM).read_bytes(), given.champion)
    plan = _found(folder, plan, given, deadline)

    def attached() -> list[object]:
        return [TimeLimit(deadline), Report(_teller(folder, plan.parameters.epochs)),
                Checkpoint(lambda data: _write(folder / CHECKPOINT, data))]

    def take_part(given: "Given") -> tuple["Plan", "Learned"] | None:
        if crew.rank:
            attend(plan, given, crew)
            return None
        return plan, learn(plan, given, attached(), crew)

    checkpoint = crew.read(given.checkpoint)
    try:
        return take_part(replace(given, checkpoint=checkpoint))
    except Invalid as error:
        if checkpoint is None:
            raise
        log.warning("the checkpoint cannot be used, the run begins anew: %s", error)
        if not crew.rank:
            (folder / CHECKPOINT).unlink()
        return take_part(replace(given, checkpoint=None))


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
    about = found.about
    return Learned(found.exported, found.weights, found.preparation, found.target, about.metrics,
                   about.champion_metrics, about.warnings, about.train_rows, about.held_out_rows, epochs=0,
                   report=found.report)


def _found(folder: Path, plan: "Plan", given: "Given", deadline: "Deadline") -> "Plan":
    """What is to be learnt, after the search the plan asks for, if it does."""
    if plan.search is None:
        return plan
    from lepton.clock import SystemClock
    from services.trainer.core.searching.search import Notes
    from services.trainer.core.searching.trials import searched

    def tell(stage: str, figures: dict[str, float]) -> None:
        _told(folder, {"epoch": 0, "epochs": 0, "stage": stage, **figures})

    kept = (folder / SEARCH).read_bytes() if (folder / SEARCH).exists() else None
    return searched(plan, given.rows, Notes(kept, lambda data: _write(folder / SEARCH, data), tell,
                                            SystemClock().monotonic, deadline.check))


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

    from google.protobuf.json_format import MessageToDict

    from services.trainer.core.learning import manifest
    from services.trainer.core.telling.card import bundle
    from services.trainer.edge.source import code_version

    about = manifest(plan, learned, code_version())
    _write(folder / MODEL, learned.exported.data)
    _write(folder / WEIGHTS, learned.weights)
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
