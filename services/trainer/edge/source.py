"""Which code made a version: a release's number says nothing between releases, and an image knows no commit.

    python -m services.trainer.edge.source      what runs of this checkout are marked with
"""

import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[3]
PARTS = ("lepton", "services/trainer")
"""What a run's process is made of, below ROOT."""
_DIGITS = 16


def code_version(root: Path = ROOT) -> str:
    """`<release>+<digits>`, or `source+<digits>` where nothing is installed.

    The digits begin the SHA-256 over names and bytes of the Python files of PARTS: equal for equal code, wherever it
    lies. Libraries and a network of one's own are no part of it.
    """
    whole = sha256()
    for path in sorted(path for part in PARTS for path in (root / part).rglob("*.py")):
        whole.update(f"{path.relative_to(root).as_posix()} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    try:
        release = version("lepton-ai")
    except PackageNotFoundError:
        release = "source"
    return f"{release}+{whole.hexdigest()[:_DIGITS]}"


if __name__ == "__main__":
    sys.stdout.write(f"{code_version()}\n")
