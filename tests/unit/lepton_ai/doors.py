"""A small gateway on a real port: answers in the gateway's form from memory, and what it was asked is kept."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from lepton_ai._credentials import Credentials

KEY_ID = "lk_0123456789abcdef"
SECRET = "s" * 43
Answer = tuple[int, Any]


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    if "wrong" in row:
        return {"error": {"outcome": "Invalid", "message": "the model takes no field `wrong`", "field": "wrong",
                          "remedy": "leave it out"}}
    return {"number": float(len(row)), "row": row}


class Desk:
    """Pipelines, rows, models and runs as a gateway tells of them. Every run succeeds with the next version."""

    def __init__(self) -> None:
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, dict[str, Any]]] = {}
        self.refuse: dict[str, str] = {}
        self.dead: dict[str, list[dict[str, Any]]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.courses: dict[str, list[dict[str, Any]]] = {}
        self.commands: list[dict[str, Any]] = []
        self.outcome: dict[str, Any] = {"state": "SUCCEEDED", "metrics": {"accuracy": 0.9}}
        self.asked: Counter[str] = Counter()
        self.fail: list[tuple[int, dict[str, str], Any]] = []
        self.quality: list[dict[str, Any]] = []
        self.incidents: list[dict[str, Any]] = []
        self.instances: list[dict[str, Any]] = []
        self.dependencies: list[dict[str, Any]] = []
        self.metrics = ""
        # Answers before the final one: states of a run, and how often model and served version are not there yet.
        self.run_states: list[dict[str, Any]] = []
        self.unannounced = 0
        self.unloaded = 0
        self.labels: list[dict[str, Any]] = []
        self.opinions: list[dict[str, Any]] = []
        self.keys: dict[str, dict[str, Any]] = {}
        self.orders: list[dict[str, Any]] = []
        self.rollout: dict[str, Any] = {}
        self.ends: list[str] = []
        self.inputs: dict[str, str] = {}
        self.stored = b""
        self.predicted: list[dict[str, Any]] = []
        # From so many predicted rows on, answers wait until they may go on.
        self.hold_at = 10**9
        self.go_on = threading.Event()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        self.asked[f"{method} {path}"] += 1
        match (method, path.strip("/").split("/")):
            case ("GET", ["v1", "pipelines"]):
                return 200, list(self.pipelines.values())
            case ("POST", ["v1", "pipelines"]):
                return self._apply(yaml.safe_load(body))
            case ("GET", ["v1", "pipelines", name]) if name in self.pipelines:
                return 200, self.pipelines[name]
            case ("POST", ["v1", "pipelines", name, "events"]) if name in self.pipelines:
                return self._take(name, body)
            case ("GET", ["v1", "pipelines", name, "rows"]) if name in self.pipelines:
                return 200, {"accepted": len(self.events[name]), "outcomes": len(self.events[name])}
            case ("GET", ["v1", "pipelines", name, "dead-letters"]) if name in self.pipelines:
                return 200, self.dead[name]
            case ("GET", ["v1", "pipelines", _, "quality"]):
                return 200, self.quality
            case ("POST", ["v1", "pipelines", "validate"]):
                return self._validate(body.decode())
            case ("GET", ["v1", "pipelines", name, "export"]) if name in self.pipelines:
                return 200, json.dumps(self.pipelines[name]["spec"])
            case ("DELETE", ["v1", "pipelines", name]) if name in self.pipelines:
                return 204, self.pipelines.pop(name) and ""
            case ("POST", ["v1", "pipelines", name, "labels"]) if name in self.pipelines:
                self.labels += [json.loads(line) for line in body.splitlines()]
                return 202, {"accepted": len(self.labels)}
            case (_, ["v1", "keys", *rest]):
                return self._keys(method, rest, body)
            case ("POST", ["v1", "incidents", _, "approve" | "deny"]):
                return 202, {"awaiting": "retrain", "target": "model:shop"}
            case ("POST", ["v1", "recovery"]):
                self.orders.append(json.loads(body))
                return 202, {"command_id": "operator-1", "executor": "ingest"}
            case ("GET", ["v1", "incidents", *rest]):
                return 200, {one["incident_id"]: one for one in self.incidents}[rest[0]] if rest else self.incidents
            case ("GET", ["v1", "models"]):
                return 200, list(self.models.values())
            case ("GET", ["v1", "status"]):
                return 200, self._status()
            case ("GET", ["v1", "dependencies" | "instances" as kind]):
                return 200, getattr(self, kind)
            case ("GET", ["v1", "runs"]):
                return 200, list(self.runs.values())[::-1]
            case ("POST", ["v1", "runs", run_id, "cancel"]) if self.runs[run_id]["state"] != "RUNNING":
                return 409, {"detail": f"run {run_id} is over", "title": "Conflict"}
            case ("POST", ["v1", "runs", run_id, "cancel"]):
                self.runs[run_id] |= {"state": "CANCELLED", "cancel_requested": True}
                return 202, {"command_id": "request-1", "run_id": run_id}
            case ("GET", ["v1", "runs", run_id, "course"]):
                return 200, {"run_id": run_id, "points": self.courses.get(run_id, [])}
            case ("GET", ["v2", "models", name, "versions", _]) if name in self.models:
                return 200, {"inputs": [{"name": name, "datatype": kind, "shape": [-1]}
                                        for name, kind in {**self.inputs, "_missing": "BOOL"}.items()]}
            case ("GET", ["v1", "datasets", _, "rows"]):
                return 200, self.stored
            case ("GET", ["v1", "runs", run_id]):
                return 200, {**self.runs[run_id], **(self.run_states.pop(0) if self.run_states else {})}
            case (_, ["v1", "models", name, *rest]):
                return self._model(name, rest, json.loads(body) if body else {})
        return 404, {"title": "Not Found", "status": 404, "detail": f"nothing at {path}"}

    def _validate(self, text: str) -> Answer:
        spec = yaml.safe_load(text)
        if "events" not in spec:
            return 200, {"valid": False, "problems": [{"path": "events", "line": 1, "message": "is required"}]}
        before = self.pipelines.get(spec["metadata"]["name"], {"spec": spec})["spec"]["events"]["fields"]
        reasons = [f"field {name} changes from {before[name]['type']} to {told['type']}"
                   for name, told in spec["events"]["fields"].items() if told["type"] != before[name]["type"]]
        return 200, {"valid": True, "problems": [], "needs_new_generation": reasons, "spec": spec}

    def _keys(self, method: str, rest: list[str], body: bytes) -> Answer:
        if method == "POST":
            self.keys["lk_new"] = json.loads(body)
            return 201, {"key_id": "lk_new", "key": "lk_new.secret"}
        if method == "DELETE":
            return 204, self.keys.pop(rest[0]) and ""
        return 200, [{"key_id": key_id, **told} for key_id, told in self.keys.items()]

    def _apply(self, spec: dict[str, Any]) -> Answer:
        name = spec["metadata"]["name"]
        before = self.pipelines.get(name)
        if before is None or before["spec"] != spec:
            version = before["version"] + 1 if before else 1
            at = f"2026-01-01T00:00:{len(self.pipelines):02d}.{version:03d}Z"
            self.pipelines[name] = {"name": name, "version": version, "generation": 1, "applied_at": at, "spec": spec}
        self.events.setdefault(name, {})
        self.dead.setdefault(name, [])
        return 200, self.pipelines[name]

    def _take(self, name: str, body: bytes) -> Answer:
        id_member = self.pipelines[name]["spec"]["events"]["id"]
        for line in body.splitlines():
            event = json.loads(line)
            wrong = [field for field in self.refuse if field in event]
            if wrong:
                self.dead[name].append({"place": f"t/0@{len(self.dead[name])}", "reason": self.refuse[wrong[0]],
                                        "field": wrong[0]})
            else:
                self.events[name][event[id_member]] = event
        return 202, {"accepted": len(body.splitlines())}

    def _model(self, name: str, rest: list[str], asked: dict[str, Any]) -> Answer:
        if rest == ["train"]:
            return self._train(name, asked)
        if name not in self.models or (not rest and self._not_yet("unannounced")):
            return 404, {"detail": f"there is no model {name}", "title": "Not Found"}
        if rest == ["promote"]:
            self.models[name]["champion"] = asked["version"]
        if rest[:1] == ["rollout"]:
            self.ends += rest[1:]
            return (202, {"command_id": "request-3"}) if rest[1:] else (200, self.rollout)
        if rest == ["rollback"]:
            return 202, {"command_id": "operator-2"}
        if rest == ["predict"]:
            self.predicted += asked["rows"]
            if len(self.predicted) >= self.hold_at:
                self.go_on.wait(30)
            return 200, {"rows": [_answer(row) for row in asked["rows"]]
                         + [{"number": 0.0, "joined": {"event_id": f"{name}-1"}} for name in asked.get("entities", ())]}
        if rest == ["feedback"]:
            self.labels += asked.get("outcomes", [])
            self.opinions += asked.get("opinions", [])
            ids = {member: [one.get("event_id") or "found" for one in asked.get(said, [])]
                   for member, said in (("event_ids", "outcomes"), ("opinion_event_ids", "opinions"))}
            return 202, ids if ids["opinion_event_ids"] else {"event_ids": ids["event_ids"]}
        return 200, self.models[name]

    def _train(self, name: str, asked: dict[str, Any]) -> Answer:
        self.commands.append({"model": name, **asked})
        run_id = f"run-{asked['command_id']}"
        state = self.models.setdefault(name, {"model": name, "champion": 0, "versions": []})
        version = len(state["versions"]) + 1
        self.runs[run_id] = {"run_id": run_id, "version": version, **self.outcome}
        if self.outcome["state"] == "SUCCEEDED":
            state["versions"].append({"version": version, "family": asked["family"], "metrics": self.outcome["metrics"],
                                      "lineage": {"run_id": run_id, "parent_version": asked.get("parent_version", 0)}})
        return 202, {"run_id": run_id, "command_id": asked["command_id"]}

    def _not_yet(self, what: str) -> bool:
        left = int(getattr(self, what))
        setattr(self, what, max(0, left - 1))
        return left > 0

    def _status(self) -> dict[str, Any]:
        ready = not self._not_yet("unloaded")
        served = {name: state["champion"] for name, state in self.models.items() if state["champion"] and ready}
        return {"instances": [{"instance": "predictor-0", "service": "predictor", "silent": False, "state": "READY",
                               "load": 0.0, "provider": "CPUExecutionProvider", "models": served}],
                "lags": [], "incidents": self.incidents, "problems": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        desk = self.server.desk
        headers: dict[str, str] = {}
        told: Any
        if self.path == "/metrics":
            # Another process's page: who sends the gateway's key there gives it away.
            status, told = (200, desk.metrics) if "authorization" not in self.headers else (400, "a key!")
        elif self.headers.get("authorization") != f"Bearer {KEY_ID}.{SECRET}":
            status, told = 401, {"detail": "no valid key", "field": "authorization"}
        elif desk.fail:
            status, headers, told = desk.fail.pop(0)
        else:
            status, told = desk.answer(self.command, self.path.partition("?")[0], body)
        data = told if isinstance(told, bytes) else (told if isinstance(told, str) else json.dumps(told)).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Requests are kept in the desk's `asked`; standard error belongs to the test."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, desk: Desk) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.desk = desk


@contextmanager
def open_door(desk: Desk) -> Iterator[Credentials]:
    """The desk behind a port of its own, as credentials that reach it."""
    server = _Server(desk)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Credentials(KEY_ID, SECRET, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
