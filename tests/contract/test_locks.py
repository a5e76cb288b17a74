"""Every lock file is complete: hashed, naming no index, and at the versions the whole project is tested with."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.lock"))
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)
# In environments of their own: the database, whose licence keeps it out of ours; Keras with TensorFlow; peers of
# benchmarks; the fuzzer; clients that hold protobuf to older versions; packages of which only files are read.
APART = {"database", "keras", "bench-peers", "fuzz", "clients", "examples", "peer-triton", "peer-mlserver",
         "peer-litserve", "peer-bentoml", "peer-ray"}


def pins(path: Path) -> dict[str, str]:
    return dict(_PIN.findall(path.read_text()))


def test_every_input_but_the_shared_floor_has_a_lock() -> None:
    assert {path.stem for path in REQUIREMENTS.glob("*.in")} - {"floor"} == {path.stem for path in LOCKS}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_no_lock_names_a_host(lock: Path) -> None:
    assert "://" not in lock.read_text()
    assert "index-url" not in lock.read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_pin_carries_hashes(lock: Path) -> None:
    blocks = re.split(r"\n(?=\S)", lock.read_text())
    without = [block.split()[0] for block in blocks if _PIN.match(block) and "--hash=sha256:" not in block]
    assert pins(lock)
    assert not without


@pytest.mark.parametrize("lock", [path for path in LOCKS if path.stem not in APART], ids=lambda path: path.stem)
def test_a_lock_agrees_with_the_environment_the_tests_run_in(lock: Path) -> None:
    tested = pins(REQUIREMENTS / "dev.lock")
    tested["onnxruntime"] = tested["onnxruntime-gpu"]
    # The CUDA libraries that ONNX Runtime asks for, where no torch brings its own.
    ours = {name: version for name, version in pins(lock).items()
            if not (lock.stem == "predictor-gpu" and name.startswith("nvidia-"))}
    assert ours == {name: tested.get(name) for name in ours}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_holds_what_its_input_asks_for(lock: Path) -> None:
    asked = asked_for(lock.with_suffix(".in"))
    assert asked <= set(pins(lock))


@pytest.mark.parametrize(("lock", "folders"), [
    *((service, (f"services/{service}", "lepton")) for service in ("gateway", "ingest", "trainer", "predictor",
                                                                   "watchdog")),
    ("local", ("deploy", "lepton")), ("sdk", ("lepton_ai", "lepton/contracts")),
])
def test_a_lock_holds_what_the_code_imports(lock: str, folders: tuple[str, ...]) -> None:
    imported = set().union(*(imports(REQUIREMENTS.parent / folder) for folder in folders))
    distributions = packages_distributions()
    wanted = {name: {normal(found) for found in distributions.get(name, [name])} for name in imported}
    held = {normal(name) for name in pins(REQUIREMENTS / f"{lock}.lock")}
    if "onnxruntime" in held:
        held.add("onnxruntime-gpu")
    if lock == "sdk":
        held |= extras()
    assert {name for name, any_of in wanted.items() if not any_of & held} == set()


def extras() -> set[str]:
    """What the SDK imports only where it is installed; its `ImportError` names the remedy."""
    project = tomllib.loads((REQUIREMENTS.parent / "pyproject.toml").read_text())["project"]
    return {normal(name) for names in project["optional-dependencies"].values() for name in names}


def test_an_extra_is_tested_at_a_locked_version() -> None:
    assert extras() <= set(pins(REQUIREMENTS / "dev.lock"))


def imports(folder: Path) -> set[str]:
    """Top-level modules from elsewhere that the code under `folder` imports, wherever in a file."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
    tops = {name.split(".")[0] for name in found}
    return tops - set(sys.stdlib_module_names) - {"lepton", "lepton_ai", "services", "deploy", "google"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for(path: Path) -> set[str]:
    names: set[str] = set()
    for line in path.read_text().splitlines():
        words = line.split("#")[0].strip()
        if words.startswith("-r "):
            names |= asked_for(path.parent / words[3:].strip())
        elif words:
            names.add(re.split(r"[\[<>=! ]", words)[0].lower())
    return names
