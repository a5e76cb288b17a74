"""A predictor that serves models, and scores no stream, imports none of the large packages that only others need."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LARGE = {"faust", "fastapi", "httpx", "nicegui", "onnx", "optuna", "pandas", "PIL", "pint", "polars", "pyarrow",
         "river", "scipy", "sklearn", "starlette", "torch"}
"""Arrow is about 37 MB resident; it comes with the first pipeline."""

IMPORTED = """
import importlib.util, sys
import services.predictor.app, services.predictor.edge.rpc.wire
if importlib.util.find_spec("services.predictor.wire.native"):
    import services.predictor.wire.native
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_the_predictor_imports_nothing_large_that_requests_do_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"onnxruntime", "aiokafka", "grpc"} <= imported
    assert not imported & LARGE
