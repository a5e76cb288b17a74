"""Messages follow buf's rules, only grow, and the committed code is what they generate."""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_NODE = "Node is not installed"


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["tools/buf.sh", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
                          timeout=150)
    if NO_NODE in done.stderr:
        pytest.skip(done.stderr.strip())
    return done


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of proto/ that a test may change."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def test_messages_follow_the_lint_rules() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_message_against_the_rules_is_reported(changed: Path) -> None:
    path = changed / "proto" / "lepton" / "v1" / "outcomes.proto"
    path.write_text(path.read_text("utf-8").replace("string entity = 2", "string Entity = 2"), "utf-8")
    done = buf("lint", str(changed))
    assert done.returncode != 0
    assert "Entity" in done.stdout


def test_messages_only_grow() -> None:
    done = buf("breaking")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("right", "wrong"), [
    ("string entity = 2", "string entity = 9"),
    ("string entity = 2", "bytes entity = 2"),
    ("message Outcome", "message Result"),
])
def test_a_breaking_change_is_reported(right: str, wrong: str, changed: Path) -> None:
    path = changed / "proto" / "lepton" / "v1" / "outcomes.proto"
    assert buf("breaking", str(changed)).returncode == 0
    path.write_text(path.read_text("utf-8").replace(right, wrong), "utf-8")
    assert buf("breaking", str(changed)).returncode != 0


def test_without_node_one_line_says_that_nothing_was_checked(tmp_path: Path) -> None:
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run([str(tmp_path / "bash"), "tools/buf.sh", "lint"], cwd=ROOT, capture_output=True, text=True,
                          check=False, timeout=60, env={"PATH": str(tmp_path)})
    assert done.returncode == 0
    assert NO_NODE in done.stderr and done.stderr.count("\n") == 1


def test_generated_code_is_what_proto_generates(tmp_path: Path) -> None:
    subprocess.run(["bash", "tools/proto.sh", str(tmp_path)], cwd=ROOT, check=True, timeout=120,
                   env={"PYTHON": sys.executable, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    committed = ROOT / "lepton" / "contracts" / "pb"
    names = sorted(path.name for path in committed.iterdir() if path.is_file() and path.suffix in (".py", ".pyi"))
    assert names == sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".py", ".pyi"))
    _, different, unreadable = filecmp.cmpfiles(committed, tmp_path, names, shallow=False)
    assert not different + unreadable, "run tools/proto.sh"
