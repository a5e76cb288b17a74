"""Workers that are killed amid a file of their run: one process imports what they need, and forks each of them.

    python -m tests.unit.trainer.running.dying      in: lines `KILL FOLDER`; out: the exit code of each life

KILL counts what a life does to files of its folder (opens, renames, removes); it is killed right before; 0: not.
"""

import os
import signal
import sys
from pathlib import Path

from services.trainer import worker

FILES = ("open", "os.rename", "os.remove")


def main() -> int:
    # What a run imports on its way, once for all of them; nothing of it starts a thread.
    import services.trainer.core.learning
    import services.trainer.core.telling.card
    import services.trainer.core.telling.pictures  # noqa: F401

    for line in sys.stdin:
        kill, _, folder = line.strip().partition(" ")
        child = os.fork()
        if not child:
            live(Path(folder), int(kill))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return 0


def live(folder: Path, kill: int) -> None:
    """Carry out the run in `folder`; this process ends with it, or before."""
    done = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        if event in FILES and str(arguments[0]).startswith(str(folder)):
            done += 1
            if done == kill:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    os._exit(worker.train(folder))


if __name__ == "__main__":
    sys.exit(main())
