"""The SDK's program end to end over a real port, with a desk that answers as the gateway does."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lepton.errors import Invalid, LeptonError, Missing, Refused, Unavailable
from lepton_ai import AsyncLeptonClient, LeptonClient, _async_client, _loading
from lepton_ai._client import in_notebook
from tests.harness.wait import poll_until
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Desk, open_door

ROOT = Path(__file__).resolve().parents[3]
CSV = "size,rooms,price\n" + "".join(f"{50 + index}.5,{index % 4},{100 + 3 * index}\n" for index in range(30))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset.csv").write_text(CSV, "utf-8")
    return Desk()


@pytest.fixture
def client(desk: Desk) -> Iterator[LeptonClient]:
    with open_door(desk) as credentials, LeptonClient(KEY_ID, SECRET, credentials.rest) as opened:
        yield opened


def test_the_program_of_the_readme_runs(client: LeptonClient, desk: Desk, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fine_tuning_data.csv").write_text(CSV.replace("50.5", "51.5"), "utf-8")
    data = client.load_data("dataset")
    cleaned_data = client.data_clean(data)
    model = client.train_model("linear_regression", cleaned_data)
    fine_tuned_model = client.fine_tune(model, "fine_tuning_data")
    api = client.deploy_model(fine_tuned_model)
    health = client.monitor_model(api)

    assert (data.accepted, data.label, data.label_because) == (30, "price", "the last column")
    assert "30 read, 30 accepted, 0 rejected" in str(cleaned_data.report)
    assert (model.version, fine_tuned_model.version, fine_tuned_model.parent_version) == (1, 2, 1)
    train, tune = desk.commands
    assert (train["model"], train["promote"], tune["kind"]) == (data.pipeline, False, "fine_tune")
    assert tune["parent_version"] == 1 and tune["data_pipeline"] != data.pipeline
    assert (health.state, health.version) == ("healthy", 2)
    assert "healthy" in capsys.readouterr().out
    assert api.predict([{"Size": 80.0, "rooms": 2}])[0]["row"] == {"size": 80.0, "rooms": 2}
    assert client.predict(model, [{"size": 1.0}])[0]["number"] == 1.0
    assert client.predict(model, [{"size": 1.0, "photo": b"PNG"}])[0]["row"]["photo"] == "UE5H"


def test_loading_again_sends_nothing_twice(client: LeptonClient, desk: Desk) -> None:
    first = client.load_data("dataset")
    sent = desk.asked[f"POST /v1/pipelines/{first.pipeline}/events"]
    again = client.load_data("dataset.csv")
    assert again.pipeline == first.pipeline
    assert desk.asked[f"POST /v1/pipelines/{first.pipeline}/events"] == sent == 1
    assert len(desk.events[first.pipeline]) == 30


def test_rows_are_sent_in_chunks_with_ids_of_their_own(client: LeptonClient, desk: Desk) -> None:
    count = 2 * _loading.CHUNK_ROWS + 1
    data = client.load_data([{"a": index, "y": index * 2.0} for index in range(count)], name="many")
    assert data.accepted == len(desk.events[data.pipeline]) == count
    assert desk.asked[f"POST /v1/pipelines/{data.pipeline}/events"] == 3


def test_a_loaded_data_set_is_found_by_name_without_its_file(client: LeptonClient, tmp_path: Path) -> None:
    loaded = client.load_data("dataset")
    (tmp_path / "dataset.csv").unlink()
    found = client.load_data("dataset")
    assert (found.pipeline, found.accepted, found.rows) == (loaded.pipeline, 30, None)
    report = str(client.data_clean(found).report)
    assert "the rows are not at hand" in report


def test_a_changed_file_does_not_replace_what_was_loaded_unless_its_path_is_given(
        client: LeptonClient, tmp_path: Path) -> None:
    loaded = client.load_data("dataset")
    (tmp_path / "dataset.csv").write_text(CSV + "1.5,1,1\n", "utf-8")
    assert client.load_data("dataset").pipeline == loaded.pipeline
    assert client.load_data("dataset.csv").accepted == 31


def test_what_is_neither_data_nor_file_is_missing(client: LeptonClient) -> None:
    with pytest.raises(Missing, match="neither a loaded data set nor a file"):
        client.load_data("nothing")


def test_refused_rows_are_accounted_for_and_told(client: LeptonClient, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"a": 1, "y": 1.5}\n{"a": 2, "bad": 1, "y": 2.5}\n', "utf-8")
    desk.refuse = {"bad": "too large"}
    data = client.load_data("odd")
    assert data.accepted == 1
    report = client.data_clean(data).report
    assert report.rejected == 1
    assert report.rejections == {"too large (bad)": 1}


def test_rows_that_never_arrive_are_said_to_be_missing(client: LeptonClient, desk: Desk,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loading, "STALLED_S", 0.3)
    monkeypatch.setattr(desk, "_take", lambda name, body: (202, {"accepted": 0}))
    with pytest.raises(Unavailable, match="30 of 30 rows are neither stored nor refused"):
        client.load_data("dataset")


def test_a_family_of_the_other_kind_describes_the_label_anew(client: LeptonClient, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "churn.csv").write_text("a,left\n" + "1.5,true\n2.5,false\n" * 10, "utf-8")
    data = client.data_clean(client.load_data("churn"))
    model = client.train_model("linear_regression", data)
    assert model.name != data.pipeline
    spec = desk.pipelines[model.name]["spec"]
    assert spec["events"]["label"]["type"] == "float"
    assert spec["clean"]["outliers"]["action"] == "clip"
    (tmp_path / "churn.csv").unlink()
    with pytest.raises(Invalid, match="not at hand"):
        client.train_model("logistic_regression", client.load_data("churn", label="left"))


class Kept:
    """Progress that is remembered."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.finished: list[str] = []

    def show(self, line: str) -> None:
        self.shown.append(line)

    def done(self, line: str) -> None:
        self.finished.append(line)


async def test_what_takes_its_time_is_waited_for_and_shown(desk: Desk) -> None:
    progress = Kept()
    desk.run_states = [{"state": "QUEUED"}, {"state": "RUNNING", "epoch": 3, "epochs": 40}]
    desk.unannounced, desk.unloaded = 2, 2
    with open_door(desk) as credentials:
        async with AsyncLeptonClient(KEY_ID, SECRET, credentials.rest, progress=progress) as client:
            await client.deploy_model(await client.train_model("linear_regression", await client.load_data("dataset")))
    assert {"queued", "running, epoch 3 of 40"} <= set(progress.shown)
    assert any("is being loaded" in line for line in progress.shown)
    assert [line.rpartition(" ")[2] for line in progress.finished][-1] == "served"


@pytest.mark.parametrize(("limit", "hindrance", "error", "says"), [
    ("QUEUE_S", {"run_states": [{"state": "QUEUED"}] * 99}, Unavailable, "is queued and does not move"),
    ("SERVED_S", {"unannounced": 99}, Missing, "there is no model"),
    ("SERVED_S", {"unloaded": 99}, Unavailable, "no predictor answers with"),
])
def test_waiting_has_an_end(limit: str, hindrance: dict[str, object], error: type[LeptonError], says: str,
                            client: LeptonClient, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_async_client, limit, 0.4)
    for name, value in hindrance.items():
        setattr(desk, name, value)
    with pytest.raises(error, match=says):
        client.deploy_model(client.train_model("linear_regression", client.load_data("dataset")))


@pytest.mark.parametrize(("outcome", "error", "says"), [
    ({"state": "FAILED", "failure": {"failure_class": "PARAMETER", "message": "learning_rate is too high",
                                     "remedy": "lower it"}}, Invalid, "too high.*lower it"),
    ({"state": "FAILED", "failure": {"failure_class": "RESOURCE", "message": "out of memory"}}, Unavailable, "memory"),
    ({"state": "FAILED", "failure": {"failure_class": "INTERNAL", "message": "a bug"}}, LeptonError, "a bug"),
    ({"state": "REJECTED", "metrics": {"r2": 0.1}}, Refused, "r2 0.1"), ({"state": "CANCELLED"}, Refused, "cancelled"),
])
def test_a_run_without_a_version_says_why(outcome: dict[str, object], error: type[LeptonError], says: str,
                                          client: LeptonClient, desk: Desk) -> None:
    desk.outcome = outcome
    with pytest.raises(error, match=says):
        client.train_model("linear_regression", client.load_data("dataset"))


def test_fine_tuning_needs_the_models_columns(client: LeptonClient, tmp_path: Path) -> None:
    model = client.train_model("linear_regression", client.load_data("dataset"))
    (tmp_path / "other.csv").write_text("size,price\n1.5,2\n2.5,3\n", "utf-8")
    with pytest.raises(Invalid, match="rooms is missing"):
        client.fine_tune(model, "other")
    client.load_data("other")
    (tmp_path / "other.csv").unlink()
    with pytest.raises(Invalid, match="do not fit the model"):
        client.fine_tune(model, "other")
    with pytest.raises(Missing):
        client.fine_tune(model, "nothing")


def test_fine_tuning_takes_data_sets_and_rows(client: LeptonClient, desk: Desk) -> None:
    data = client.load_data("dataset")
    model = client.train_model("linear_regression", data)
    client.fine_tune(model, data)
    client.fine_tune(model, [{"size": 1.0, "rooms": 1, "price": 2}, {"size": 2, "rooms": 1, "price": 3}])
    assert desk.commands[1]["data_pipeline"] == data.pipeline
    assert len(desk.events[desk.commands[2]["data_pipeline"]]) == 2


def test_a_fine_tune_may_be_of_the_datas_own_model(client: LeptonClient, desk: Desk) -> None:
    model = client.train_model("linear_regression", client.load_data("dataset"))
    client.fine_tune(model, [{"size": 1.0, "age": 3, "price": 2}, {"size": 2, "age": 1, "price": 3}], own=True,
                     transfer={"freeze": ["layers.0.*"]})
    asked = desk.commands[1]
    assert (asked["parent_model"], asked["parent_version"], asked["kind"]) == (model.name, 1, "fine_tune")
    assert asked["model"] != model.name
    assert asked["transfer"] == {"freeze": ["layers.0.*"]}
    assert "data_pipeline" not in asked


def test_a_wrong_key_is_refused(desk: Desk) -> None:
    with (open_door(desk) as credentials, LeptonClient(KEY_ID, "z" * 43, credentials.rest) as stranger,
          pytest.raises(Refused, match="no valid key")):
        stranger.load_data("dataset")


def test_a_pipeline_is_exported(client: LeptonClient, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    data = client.load_data("dataset")
    desk.fail = [(200, {}, "kind: Pipeline\n")]
    assert client.export_pipeline(data) == "kind: Pipeline\n"


WATCH = """
from lepton_ai import LeptonClient, _client
_client.REFRESH_S = 0.05
with LeptonClient({key!r}, {secret!r}, {rest!r}) as client:
    print("ended", client.monitor_model({model!r}).state)
"""


def test_a_terminal_shows_live_health_until_it_is_interrupted(desk: Desk) -> None:
    ours, theirs = os.openpty()
    with open_door(desk) as credentials, LeptonClient(KEY_ID, SECRET, credentials.rest) as client:
        api = client.deploy_model(client.train_model("linear_regression", client.load_data("dataset")))
        program = WATCH.format(key=KEY_ID, secret=SECRET, rest=credentials.rest, model=api.model)
        before = desk.asked["GET /v1/status"]
        watching = subprocess.Popen([sys.executable, "-c", program], stdin=theirs, stdout=theirs, cwd=ROOT,
                                    env={**os.environ, "TERM": "xterm", "LINES": "40", "COLUMNS": "120"})
        os.close(theirs)
        try:
            poll_until(lambda: desk.asked["GET /v1/status"] >= before + 3, "health was looked at three times", 20)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(20) == 0
            shown = os.read(ours, 65536).decode()
        finally:
            watching.kill()
            watching.wait()
            os.close(ours)
    assert "healthy" in shown
    assert "ended healthy" in shown


def test_a_notebook_is_given_the_picture(client: LeptonClient, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    api = client.deploy_model(client.train_model("linear_regression", client.load_data("dataset")))
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    assert in_notebook()
    assert client.monitor_model(api)._repr_svg_().startswith("<svg")
    assert capsys.readouterr().out == ""


def test_a_client_is_closed_once_and_forgotten_ones_too(desk: Desk) -> None:
    with open_door(desk) as credentials:
        client = LeptonClient(KEY_ID, SECRET, credentials.rest)
        client.load_data("dataset")
        client.close()
        client.close()
        forgotten = LeptonClient(KEY_ID, SECRET, credentials.rest)
        loop = forgotten._loop
        del forgotten
        assert loop.is_closed()


async def test_the_async_client_speaks_the_same(desk: Desk) -> None:
    with open_door(desk) as credentials:
        async with AsyncLeptonClient(KEY_ID, SECRET, credentials.rest) as client:
            data, other = await asyncio.gather(client.load_data("dataset"), client.load_data("dataset", label="rooms"))
            model = await client.train_model("mlp", data, parameters={"hidden": [4]})
            api = await client.deploy_model(model)
            assert (await api.predict([{"size": 1.0}]))[0]["number"] == 1.0
            assert (await client.monitor_model(api)).state == "healthy"
            assert (await client.monitor_model(model.name)).version == 1
    assert other.label == "rooms"
    assert desk.commands[0]["parameters"] == {"hidden": [4]}
