"""The command line does what its words say, and tells a failure in one line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lepton.errors import Invalid, Missing, Unavailable
from lepton_ai.cli.app import app
from tests.harness.wait import poll_until
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Desk, open_door

ROOT = Path(__file__).resolve().parents[3]
Lepton = Callable[..., Result]
PIPELINE = """apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {id: order_id, fields: {amount: {type: float}}}
"""
INCIDENT = {"incident_id": "inc-1", "state": "VERIFIED", "symptom": "silence", "target": "instance:predictor-0",
            "timeline": [{"at": "2026-01-01T00:00:01Z", "what": "suspected", "detail": "no heartbeat"},
                         {"at": "2026-01-01T00:00:04Z", "what": "verified", "detail": "ready again"}]}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").write_text(PIPELINE, "utf-8")
    return Desk()


@pytest.fixture
def where(desk: Desk) -> Iterator[list[str]]:
    with open_door(desk) as credentials:
        yield ["--key", KEY_ID, "--secret", SECRET, "--region", credentials.rest]


@pytest.fixture
def lepton(where: list[str]) -> Lepton:
    def run(*arguments: str, stdin: str | None = None) -> Result:
        done = CliRunner().invoke(app, [*where, *arguments], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done
    return run


def test_a_pipeline_is_applied_shown_compared_and_deleted(lepton: Lepton, desk: Desk, tmp_path: Path) -> None:
    assert lepton("diff", "-f", "shop.yaml").exit_code == 1
    assert "shop version 1" in lepton("apply", "-f", "shop.yaml").stdout
    assert lepton("diff", "-f", "shop.yaml").exit_code == 0
    (tmp_path / "shop.yaml").write_text(PIPELINE.replace("float", "int"), "utf-8")
    changed = lepton("diff", "-f", "-", stdin=PIPELINE.replace("float", "int"))
    assert changed.exit_code == 1
    assert "-      type: float" in changed.stdout and "+      type: int" in changed.stdout
    assert "needs --new-generation: field amount changes from float to int" in changed.stdout
    assert "shop" in lepton("get", "pipelines").stdout
    assert json.loads(lepton("export", "shop").stdout)["kind"] == "Pipeline"
    assert lepton("delete", "shop", stdin="n\n").exit_code == 1
    assert "shop" in desk.pipelines
    assert "deleted" in lepton("delete", "shop", "--yes").stdout
    assert desk.pipelines == {}


def test_a_model_is_waited_for_until_it_answers_or_its_first_run_fails(lepton: Lepton, desk: Desk) -> None:
    with pytest.raises(Missing):
        lepton("models", "wait", "shop")
    lepton("apply", "-f", "shop.yaml")
    with pytest.raises(Unavailable, match="no run has begun"):
        lepton("models", "wait", "shop", "--seconds", "0")
    desk.runs["run-1"] = {"run_id": "run-1", "state": "FAILED", "failure": {
        "failure_class": "DATA", "message": "one class only", "remedy": "send the other"}}
    with pytest.raises(Invalid, match="one class only"):
        lepton("models", "wait", "shop")
    desk.runs["run-2"] = {"run_id": "run-2", "state": "SUCCEEDED", "version": 1}
    desk.models["shop"] = {"model": "shop", "champion": 1, "versions": []}
    desk.unannounced, desk.unloaded = 1, 1
    assert "version 1 answers" in lepton("models", "wait", "shop").stdout
    # A later run that failed takes nothing away.
    desk.runs["run-3"] = {**desk.runs["run-1"], "run_id": "run-3"}
    assert "version 1 answers" in lepton("models", "wait", "shop").stdout


def test_key_and_address_are_given_as_a_shell_takes_them(lepton: Lepton, where: list[str]) -> None:
    told = lepton("key", "--shell").stdout
    shown = subprocess.run(["bash", "-c", f'{told}printf "%s|%s" "$KEY" "$REST"'], capture_output=True, text=True,
                           check=True).stdout
    assert shown == f"authorization: Bearer {KEY_ID}.{SECRET}|{where[-1]}"


def test_a_predictors_address_is_given_too_where_the_region_names_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lepton").mkdir()
    (tmp_path / "lepton" / "credentials").write_text(
        "[region here]\nrest = http://127.0.0.1:1\ngrpc = 127.0.0.1:2\n", "utf-8")
    told = CliRunner().invoke(app, ["--key", KEY_ID, "--secret", SECRET, "--region", "here", "key", "--shell"])
    assert told.stdout.splitlines()[1:] == ["REST=http://127.0.0.1:1", "GRPC=127.0.0.1:2"]


def test_every_mistake_of_a_file_is_told(lepton: Lepton, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Pipeline\n", "utf-8")
    with pytest.raises(Invalid, match="line 1, events: is required"):
        lepton("diff", "-f", "bad.yaml")
    with pytest.raises(Missing, match="cannot be read"):
        lepton("apply", "-f", "nothing.yaml")


def test_events_and_labels_are_sent(lepton: Lepton, desk: Desk, tmp_path: Path) -> None:
    lepton("apply", "-f", "shop.yaml")
    (tmp_path / "events.json").write_text('[{"order_id": "a"}, {"order_id": "b"}]', "utf-8")
    assert "2 events sent" in lepton("send", "shop", "-f", "events.json").stdout
    assert "1 labels sent" in lepton("send", "shop", "--labels", "-f", "-",
                                     stdin='{"event_id": "a", "label": 1}\n\n').stdout
    assert set(desk.events["shop"]) == {"a", "b"}
    assert desk.labels == [{"event_id": "a", "label": 1}]


@pytest.mark.parametrize(("text", "why"), [("", "needs JSON objects"), ("[1]", "needs JSON objects"),
                                           ("{}\n{", "line 2"), ("order,amount\n", "not JSON")])
def test_what_is_no_event_is_not_sent(text: str, why: str, lepton: Lepton) -> None:
    with pytest.raises(Invalid, match=why):
        lepton("send", "shop", "-f", "-", stdin=text)


def test_models_are_trained_shown_promoted_and_asked(lepton: Lepton, desk: Desk) -> None:
    assert "run run-" in train(lepton)
    train(lepton)
    assert "version 2" in lepton("promote", "shop", "2").stdout
    desk.models["shop"] |= {"previous_champion": 1, "revision": 3}
    assert "champion 2, before it 1" in lepton("models", "shop").stdout
    assert "shop" in lepton("models").stdout
    assert json.loads(lepton("models", "shop", "-o", "json").stdout)["champion"] == 2
    assert "operator-2" in lepton("rollback", "shop").stdout
    assert "2" in lepton("predict", "shop", '{"amount": 1, "Item No": 2}').stdout
    rows = json.loads(lepton("predict", "shop", "-f", "-", "-o", "json", stdin='{"Item No": 2}').stdout)
    assert rows[0]["row"] == {"item_no": 2}
    desk.models["shop"]["previous_champion"] = 0
    with pytest.raises(Missing, match="no version to return to"):
        lepton("rollback", "shop")


def test_entities_are_asked_for_and_outcomes_told(lepton: Lepton, desk: Desk) -> None:
    train(lepton)
    assert "event_id=ann-1" in lepton("predict", "shop", "--entity", "ann").stdout
    told = lepton("predict", "shop", "--each", '{"wrong": 1}', '{"amount": 1}').stdout
    assert "leave it out" in told
    assert "1 outcomes are durable" in lepton("feedback", "shop", "--event", "e-1", "--label", "true").stdout
    lepton("feedback", "shop", "--entity", "ann", "--label", "red")
    assert [(one["event_id"], one["entity"], one["label"]) for one in desk.labels] == [
        ("e-1", "", True), ("", "ann", "red")]
    with pytest.raises(Invalid, match="needs an outcome"):
        lepton("feedback", "shop")


def test_opinions_are_told_alone_or_from_a_file_beside_outcomes(lepton: Lepton, desk: Desk) -> None:
    train(lepton)
    told = lepton("feedback", "shop", "--event", "e-1", "--rejected", "--reason", "no", "--version", "2").stdout
    assert "1 opinions are durable" in told
    lepton("feedback", "shop", "--entity", "ann", "--score", "0")
    assert desk.opinions == [
        {"event_id": "e-1", "entity": "", "accepted": False, "reason": "no", "version": 2},
        {"event_id": "", "entity": "ann", "score": 0.0, "version": 0}]
    assert desk.labels == []
    rows = '{"event_id": "e-2", "label": true}\n{"event_id": "e-3", "accepted": true}'
    assert "1 outcomes and 1 opinions are durable" in lepton("feedback", "shop", "-f", "-", stdin=rows).stdout
    assert (desk.labels, desk.opinions[2:]) == (
        [{"event_id": "e-2", "label": True}], [{"event_id": "e-3", "accepted": True}])


def test_a_rollout_is_shown_and_ended_either_way(lepton: Lepton, desk: Desk) -> None:
    train(lepton)
    desk.rollout = {"candidate": 2, "champion": 1, "strategy": "CANARY", "state": "RUNNING", "share": 0.25, "step": 1,
                    "note": "", "by": "", "terms": {"shares": [0.05, 0.25, 0.5]},
                    "measured": [{"version": 2, "answered": 20, "failed": 0, "compared": 0, "agreed": 0}]}
    assert "candidate 2 beside champion 1, canary, step 2 of 3, 25% of entities" in lepton("rollout", "status",
                                                                                          "shop").stdout
    desk.rollout |= {"state": "REVERTED", "share": 0.0, "by": "trainer", "note": "it is slower"}
    assert "reverted by trainer: it is slower" in lepton("rollout", "status", "shop").stdout
    assert json.loads(lepton("rollout", "status", "shop", "-o", "json").stdout)["share"] == 0.0
    assert "answers alone" in lepton("rollout", "abort", "shop", "--note", "too soon").stdout
    assert "to be champion" in lepton("rollout", "promote", "shop").stdout
    assert desk.ends == ["abort", "promote"]


def test_a_run_can_be_told_where_it_begins_and_what_may_change(lepton: Lepton, desk: Desk) -> None:
    lepton("train", "shop", "--from", "stall:3", "--freeze", "layers.0.*", "--freeze", "layers.1", "--head", "replace",
           "--lora", "2")
    asked = desk.commands[-1]
    assert (asked["kind"], asked["parent_model"], asked["parent_version"]) == ("fine_tune", "stall", 3)
    assert asked["transfer"] == {"freeze": ["layers.0.*", "layers.1"], "head": "replace", "lora": {"rank": 2}}
    with pytest.raises(Invalid, match="'x' is no version"):
        lepton("train", "shop", "--from", "stall:x")


def train(lepton: Lepton) -> str:
    return lepton("train", "shop", "--family", "mlp", "--parameters", '{"epochs": 3}', "--no-promote").stdout


@pytest.mark.parametrize("row", ["5", "{", "[]"])
def test_a_row_that_is_no_object_is_refused(row: str, lepton: Lepton) -> None:
    with pytest.raises(Invalid):
        lepton("predict", "shop", row)
    with pytest.raises(Invalid, match="needs rows"):
        lepton("predict", "shop")


def test_incidents_are_listed_and_read(lepton: Lepton, desk: Desk) -> None:
    assert lepton("incidents").exit_code == 0
    desk.incidents = [INCIDENT]
    assert "silence" in lepton("incidents").stdout
    assert "no heartbeat" in lepton("incidents", "inc-1").stdout
    assert "inc-1" in lepton("get", "incidents", "-o", "yaml").stdout


def test_dependencies_are_a_table_of_who_calls_whom(lepton: Lepton, desk: Desk) -> None:
    assert lepton("dependencies").exit_code == 0
    desk.dependencies = [{"caller": "gateway", "way": "request", "callee": "predictor-1", "calls": 120, "failed": 3,
                          "mean_ms": 2.4, "seen_at": "2026-01-31T12:00:02+00:00"}]
    head, row = lepton("dependencies").stdout.splitlines()
    assert head.split() == ["caller", "way", "callee", "calls", "failed", "mean", "ms", "seen", "at"]
    assert row.split() == ["gateway", "request", "predictor-1", "120", "3", "2.4", "2026-01-31T12:00:02+00:00"]
    assert "predictor-1" in lepton("get", "dependencies", "-o", "json").stdout


def test_a_person_s_word_on_what_an_incident_asks(lepton: Lepton, desk: Desk) -> None:
    assert "inc-1: approve retrain of model:shop" in lepton("incidents", "approve", "inc-1").stdout
    lepton("incidents", "deny", "inc-2")
    assert lepton("incidents", "approve").exit_code == 2
    words = {path: count for path, count in desk.asked.items() if path.startswith("POST ")}
    assert words == {"POST /v1/incidents/inc-1/approve": 1, "POST /v1/incidents/inc-2/deny": 1}


def test_quarantine_and_keys_are_orders(lepton: Lepton, desk: Desk) -> None:
    lepton("quarantine", "add", "shop", "till-3")
    lepton("quarantine", "lift", "shop", "till-3")
    lepton("quarantine", "add", "shop", "--field", "price")
    lepton("quarantine", "lift", "shop", "--field", "price")
    assert lepton("quarantine", "add", "shop").exit_code == 2
    assert lepton("quarantine", "add", "shop", "till-3", "--field", "price").exit_code == 2
    assert [(one["action"], one["target"], one["arguments"]) for one in desk.orders] == [
        ("QUARANTINE", "pipeline:shop", {"source": "till-3"}), ("RESTORE", "pipeline:shop", {"source": "till-3"}),
        ("QUARANTINE", "pipeline:shop", {"field": "price"}), ("RESTORE", "pipeline:shop", {"field": "price"})]
    made = lepton("keys", "create", "--scope", "read", "--scope", "predict", "--description", "the shop").stdout
    assert made == "lk_new.secret\n"
    assert "read predict" in lepton("keys", "list").stdout
    assert "revoked" in lepton("keys", "revoke", "lk_new").stdout
    assert desk.keys == {}


def test_a_key_is_throttled_for_a_time_and_released(lepton: Lepton, desk: Desk) -> None:
    assert "see `lepton get recovery`" in lepton("keys", "throttle", "lk_1", "--rate", "0.5", "--for", "90").stdout
    lepton("keys", "throttle", "lk_1", "--rate", "5")
    lepton("keys", "release", "lk_1")
    assert [(one["action"], one["target"], one["arguments"]) for one in desk.orders] == [
        ("THROTTLE", "client:lk_1", {"rate_per_s": "0.5", "for_s": "90"}),
        ("THROTTLE", "client:lk_1", {"rate_per_s": "5", "for_s": "600"}), ("RESTORE", "client:lk_1", {})]
    for wrong in (("--rate", "0"), (), ("--rate", "1", "--for", "0")):
        assert lepton("keys", "throttle", "lk_1", *wrong).exit_code == 2


def test_a_process_is_drained_for_a_time_and_released(lepton: Lepton, desk: Desk) -> None:
    assert "see `lepton get recovery`" in lepton("services", "drain", "predictor-0").stdout
    lepton("services", "drain", "predictor-0", "--within", "30", "--for", "600")
    lepton("services", "release", "predictor-0")
    assert [(one["action"], one["target"], one["arguments"]) for one in desk.orders] == [
        ("DRAIN", "instance:predictor-0", {"within_s": "10", "for_s": "120"}),
        ("DRAIN", "instance:predictor-0", {"within_s": "30", "for_s": "600"}), ("RESTORE", "instance:predictor-0", {})]
    for wrong in (("--for", "0"), ("--within", "301")):
        assert lepton("services", "drain", "predictor-0", *wrong).exit_code == 2
    for verb, said in (("drain", "The last of its service that is ready"), ("release", "serve again")):
        assert said in " ".join(lepton("services", verb, "--help").stdout.split())


def test_a_pipeline_is_paused_and_goes_on_by_orders(lepton: Lepton, desk: Desk) -> None:
    assert "sent to ingest" in lepton("pipelines", "pause", "shop").stdout
    lepton("pipelines", "resume", "shop")
    assert [(one["action"], one["target"], one["arguments"]) for one in desk.orders] == [
        ("PAUSE", "pipeline:shop", {}), ("RESUME", "pipeline:shop", {})]


def test_requests_of_low_priority_are_shed_for_a_time_and_answered_again(lepton: Lepton, desk: Desk) -> None:
    assert "shop: command" in lepton("models", "shed", "shop", "--keep", "2", "--unnamed", "--for", "90").stdout
    assert "all models: command" in lepton("models", "shed", "--all").stdout
    lepton("models", "shed", "shop", "--end")
    assert [(one["action"], one["target"], one["arguments"]) for one in desk.orders] == [
        ("SHED", "model:shop", {"keep": "2", "unnamed": "true", "for_s": "90"}),
        ("SHED", "model:*", {"keep": "1", "unnamed": "false", "for_s": "600"}),
        ("RESTORE", "model:shop", {"what": "shed"})]
    for wrong in (("shop", "--all"), (), ("shop", "--keep", "0"), ("shop", "--for", "0")):
        assert lepton("models", "shed", *wrong).exit_code == 2


def test_data_of_a_pipeline_needs_its_name(lepton: Lepton) -> None:
    with pytest.raises(Invalid, match="those of a pipeline"):
        lepton("get", "rows")
    lepton("apply", "-f", "shop.yaml")
    assert "accepted: 0" in lepton("get", "rows", "shop").stdout
    assert lepton("get", "quality", "shop").exit_code == lepton("get", "dead-letters", "shop").exit_code == 0


def test_the_key_is_printed_as_a_header_takes_it(lepton: Lepton) -> None:
    assert lepton("key").stdout == f"{KEY_ID}.{SECRET}\n"


def test_logs_show_the_last_lines_of_each_process(lepton: Lepton, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no logs"):
        lepton("logs", "--home", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "ingest.log").write_text("one\ntwo\n", "utf-8")
    (tmp_path / "logs" / "kafka.log").write_text("three\n", "utf-8")
    assert lepton("logs", "--home", str(tmp_path), "-n", "1").stdout == "ingest       two\nkafka        three\n"
    assert lepton("logs", "ingest", "--home", str(tmp_path), "-n", "0").stdout == ""
    assert lepton("logs", "ingest", "--home", str(tmp_path)).stdout == "one\ntwo\n"
    with pytest.raises(Missing, match="there are ingest, kafka"):
        lepton("logs", "inget", "--home", str(tmp_path))


def process(*arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", "from lepton_ai.cli import main; main()", *arguments], cwd=ROOT,
                            env={**os.environ, **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_failure_is_one_line_and_exit_1(tmp_path: Path) -> None:
    run = process("get", "pipelines", XDG_CONFIG_HOME=str(tmp_path))
    shown, error = run.communicate(timeout=30)
    assert (run.returncode, shown) == (1, "")
    assert error.startswith("lepton: no key id") and error.count("\n") == 1


def test_the_stacks_own_exit_code_is_passed_on(tmp_path: Path) -> None:
    run = process("status", "--home", str(tmp_path / "nothing"))
    _, error = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "no stack was brought up here" in error


@pytest.mark.parametrize("command", [["incidents", "--follow"], ["logs", "--follow", "--home", "HOME"]])
def test_following_goes_on_until_it_is_interrupted(command: list[str], desk: Desk, where: list[str],
                                                   tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "ingest.log"
    log.write_text("first\n", "utf-8")
    desk.incidents = [{**INCIDENT, "timeline": INCIDENT["timeline"][:1]}]
    run = process(*where, *[str(tmp_path) if word == "HOME" else word for word in command])
    assert run.stdout is not None
    assert "first" in (line := run.stdout.readline()) or "no heartbeat" in line
    desk.incidents = [INCIDENT]
    log.write_text("first\nsecond\n", "utf-8")
    assert "second" in (line := run.stdout.readline()) or "ready again" in line
    run.send_signal(signal.SIGINT)
    poll_until(lambda: run.poll() is not None, "the command ended", 20)
    run.communicate()
    assert run.returncode == 130
