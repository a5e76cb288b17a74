"""`lepton backup verify --restore`: what the stack on trial is asked, what it is kept from, and that it is removed."""

import json
import stat
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.backup import __main__ as backup
from deploy.backup.archive.secret import read_key, write_key
from deploy.backup.predictions import Kept, to_bytes
from deploy.local import ports
from lepton.contracts.apikeys import new_key
from tests.unit.backup.conftest import Write

ROWS = [{"amount": 1.5}, {"amount": 2.5}]
_PYTHON = sys.executable
BEFORE = [{"value": 0.25, "label": "good"}, {"value": 0.75, "label": "bad"}]
# In the place of Python: what brings a stack up within seconds. `restore` makes the home, and `told` is the record.
_STAND_IN = """#!{python}
import json, os, pathlib, shutil, sys
told = pathlib.Path({told!r})
home = pathlib.Path(sys.argv[sys.argv.index("--home") + 1])
settings = sorted(name for name in os.environ if name.startswith("LEPTON_") and name != "LEPTON_CACHE")
with told.open("a") as sink:
    sink.write(json.dumps([sys.argv[2:], str(home), settings]) + "\\n")
if "restore" in sys.argv and not {fails}:
    shutil.copytree({prepared!r}, home)
sys.exit({fails} if "restore" in sys.argv else 0)
"""


@dataclass
class Trial:
    """A backup in its folder, and the gateway of the stack that it becomes; `answers` are what that says."""

    folder: Path
    answers: list[dict[str, Any]]
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    """Path, key and body of every request."""
    fails: int = 0
    key: str = ""

    def verify(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
        script, told = self.folder / "python", self.folder / "told"
        script.write_text(_STAND_IN.format(python=_PYTHON, told=str(told), fails=self.fails,
                                           prepared=str(self.folder / "prepared")))
        script.chmod(stat.S_IRWXU)
        monkeypatch.setenv("LEPTON_MONGO_DATABASE", "of-the-shell")
        monkeypatch.setattr("sys.argv", ["backup", "verify", "latest", *more, "--to", str(self.folder), "--key-file",
                                         str(self.folder / "key"), "--home", str(self.folder / "nothing")])
        monkeypatch.setattr("sys.executable", str(script))
        return backup.main()

    def commands(self) -> list[tuple[list[str], Path, list[str]]]:
        """What was run: module and arguments, home, and settings in the environment."""
        file = self.folder / "told"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(words, Path(home), names) for words, home, names in map(json.loads, lines)]


@pytest.fixture
def trial(tmp_path: Path, write: Write) -> Iterator[Trial]:
    write_key(tmp_path / "key")
    made = Trial(tmp_path, [dict(one) for one in BEFORE])
    write({"predictions": [to_bytes([Kept("shop", 3, ROWS, BEFORE)])]}, name="home-20260504T120000Z.lepton-backup",
          secret=read_key(tmp_path / "key"))

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made.asked.append((self.path, self.headers["authorization"], body))
            answer = json.dumps({"rows": made.answers}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Gateway)
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    stack = ports.create(prepared)
    ports.Stack(prepared, {**stack.ports, "rest": server.server_port}, "", "").save()
    key_id, key, _ = new_key()
    made.key = f"{key_id}.{key}"
    (prepared / "admin-key").write_text(made.key)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_stack_on_trial_is_asked_what_was_kept_and_is_removed(
        trial: Trial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trial.answers[0]["value"] += 1e-8  # another processor adds in another order
    assert trial.verify(monkeypatch, "--restore") == 0
    told = capsys.readouterr().out
    assert "1 models answer as before" in told
    assert "holds" in told
    assert trial.asked == [("/v1/models/shop/predict", f"Bearer {trial.key}", {"rows": ROWS, "version": 3})]
    (restored, home, settings), (down, taken_down, _) = trial.commands()
    assert restored[:3] == ["deploy.backup", "restore", str(trial.folder / "home-20260504T120000Z.lepton-backup")]
    assert restored[restored.index("--key-file") + 1] == str(trial.folder / "key")
    assert "--trial" in restored
    assert settings == [], "settings of the shell reached the stack on trial"
    assert (down[:2], taken_down) == (["deploy.local", "down"], home)
    assert not home.parent.exists()


def test_one_that_answers_otherwise_or_does_not_come_up_is_an_error_and_is_removed_too(
        trial: Trial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trial.answers[1]["label"] = "good"
    assert trial.verify(monkeypatch, "--restore") == 1
    assert "predicts otherwise: shop version 3 answered" in capsys.readouterr().err
    trial.fails = 1
    assert trial.verify(monkeypatch, "--restore") == 1
    assert "could not be brought back" in capsys.readouterr().err
    assert [words[1] for words, _, _ in trial.commands()] == ["restore", "down"] * 2
    assert not any(home.parent.exists() for _, home, _ in trial.commands())


def test_without_restore_nothing_is_brought_up(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial.verify(monkeypatch) == 0
    assert (trial.commands(), trial.asked) == ([], [])
