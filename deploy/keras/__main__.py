"""`python -m deploy.keras IN.keras OUT.onnx`: builds the environment on first use and has the file turned there.

Exit codes: 0 done, 1 the model cannot be turned, 3 the environment cannot be built; one line on stderr says why.
"""

import subprocess
import sys
from pathlib import Path

from deploy.local.servers.environment import installed
from lepton.errors import LeptonError

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "keras.lock"
_PROGRAM = ROOT / "tools" / "keras_onnx.py"
_LIMIT_S = 900


def environment() -> Path:
    """TensorFlow, Keras and tf2onnx from a hashed lock file, 1.5 GB in the cache. Raises Unavailable."""
    return installed(LOCK, "TensorFlow", 4000, "check that the Python package index can be reached, or turn the model "
                     "into ONNX with tf2onnx yourself")


def main(arguments: list[str]) -> int:
    source, target = arguments
    try:
        python = environment() / "bin" / "python"
    except LeptonError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    # Isolated: neither the caller's packages nor its settings reach what opens a stranger's file.
    done = subprocess.run([str(python), "-I", str(_PROGRAM), source, target], capture_output=True, text=True,
                          timeout=_LIMIT_S, check=False, env={"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        sys.stderr.write((done.stderr.strip().splitlines() or ["it said nothing"])[-1] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
