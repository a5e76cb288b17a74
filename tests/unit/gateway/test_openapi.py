"""The OpenAPI page is whole, and its examples and real answers follow its own schemas."""

from typing import Any

import jsonschema

from lepton.clock import SystemClock
from lepton.contracts.pb import incidents_pb2, models_pb2
from lepton.contracts.topics import Topic
from lepton.store.incidents import Incidents
from lepton.store.runs import Runs
from services.gateway.edge.http.answers import plain, schema
from tests.unit.gateway.house import House


async def document(house: House) -> dict[str, Any]:
    response = await house.client().get("/openapi.json")
    assert response.status_code == 200
    said: dict[str, Any] = response.json()
    return said


def operations(said: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{method} {path}", operation) for path, methods in said["paths"].items()
            for method, operation in methods.items()]


async def test_every_route_is_described_tagged_and_names_its_errors(house: House) -> None:
    said = await document(house)
    assert said["openapi"].startswith("3.1")
    assert len({operation["operationId"] for _, operation in operations(said)}) == len(operations(said))
    tags = {tag["name"] for tag in said["tags"]}
    for name, operation in operations(said):
        assert set(operation["tags"]) <= tags, name
        assert operation["summary"], name
        assert {"401", "403", "404", "422", "429", "503"} <= set(operation["responses"]), name
        if "/health/" not in name:
            assert operation["security"], name
    assert (await house.client().get("/docs")).status_code == 200


async def test_every_example_follows_the_schema_beside_it(house: House) -> None:
    said = await document(house)
    seen = 0
    for name, operation in operations(said):
        parts = [*operation["responses"].values(), operation.get("requestBody", {})]
        for content in (one for part in parts for one in part.get("content", {}).values()):
            if "example" in content:
                jsonschema.validate(content["example"], content["schema"] | {"components": said["components"]})
                seen += 1
        for code, response in operation["responses"].items():
            for media, content in response.get("content", {}).items():
                if code.startswith("2") and "json" in media and content.get("schema"):
                    assert "example" in content, f"{name} {code} has no example"
    assert seen > 100


async def test_the_routes_clients_rely_on_are_there(house: House) -> None:
    said = await document(house)
    paths = {f"{method.upper()} {path}" for path, methods in said["paths"].items() for method in methods}
    assert {
        "POST /v1/pipelines", "GET /v1/pipelines", "GET /v1/pipelines/{pipeline}", "DELETE /v1/pipelines/{pipeline}",
        "POST /v1/pipelines/validate", "GET /v1/pipelines/{pipeline}/export", "POST /v1/pipelines/{pipeline}/events",
        "POST /v1/pipelines/{pipeline}/labels", "GET /v1/pipelines/{pipeline}/rows",
        "GET /v1/pipelines/{pipeline}/quality", "GET /v1/pipelines/{pipeline}/dead-letters", "GET /v1/models",
        "GET /v1/models/{model}", "POST /v1/models/{model}/predict", "POST /v1/models/{model}/train",
        "POST /v1/models/{model}/promote", "POST /v1/models/{model}/rollback", "GET /v1/runs", "GET /v1/runs/{run_id}",
        "GET /v1/incidents", "GET /v1/instances", "POST /v1/keys", "GET /v1/keys", "DELETE /v1/keys/{key_id}",
        "POST /v1/recovery", "GET /v1/status", "GET /v2/health/live", "GET /v2/health/ready", "GET /v2",
        "GET /v2/models/{model}", "GET /v2/models/{model}/ready", "POST /v2/models/{model}/infer",
        "GET /v2/models/{model}/versions/{version}", "GET /v2/models/{model}/versions/{version}/ready",
        "POST /v2/models/{model}/versions/{version}/infer", "GET /v2/models/{model}/config", "GET /v2/models/stats",
        "GET /v2/models/{model}/stats", "POST /v2/repository/index", "POST /v2/repository/models/{model}/load",
    } <= paths


async def test_what_is_answered_follows_the_schema_on_the_page(house: House) -> None:
    said = await document(house)
    await house.apply()
    state = models_pb2.ModelState(model="shop", revision=1, champion=1, key_id="k", signature=b"s", reason="published")
    version = state.versions.add(model="shop", version=1, status=models_pb2.VERSION_STATUS_READY)
    version.manifest.MergeFrom(models_pb2.ModelManifest(
        classes=["true"], statistics=[models_pb2.FieldStatistics(field="price", mean=1.5)],
        inputs=[models_pb2.TensorSpec(name="price", shape=[-1])]))
    state.changed_at.GetCurrentTime()
    await house.announce(Topic.MODELS, "shop", state)
    await house.until("/v1/models/shop", lambda answer: answer.status_code == 200, "the model to be known")
    await Incidents(house.database).open(incidents_pb2.Incident(incident_id="inc-1", symptom="silence"), "silence")
    await house.admin.post("/v1/models/shop/train", json={})
    (command,) = await house.messages(Topic.TRAINING_COMMANDS)
    await Runs(house.database, SystemClock()).enqueue(command)
    for path in ("/v1/models", "/v1/instances", "/v1/status", "/v1/keys", "/v1/pipelines", "/v1/incidents", "/v1/runs"):
        response = await house.admin.get(path)
        shape = said["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(response.json(), shape)
        assert response.json(), f"{path} answered nothing to check"


def test_a_message_is_shown_by_short_names_plain_numbers_and_times() -> None:
    incident = incidents_pb2.Incident(incident_id="i", revision=2**60, state=incidents_pb2.INCIDENT_STATE_VERIFIED)
    incident.opened_at.FromSeconds(0)
    shown = plain(incident)
    assert (shown["state"], shown["revision"], shown["opened_at"]) == ("VERIFIED", 2**60, "1970-01-01T00:00:00Z")
    assert "closed_at" not in shown
    jsonschema.validate(shown, schema(incidents_pb2.Incident))
    assert plain(incidents_pb2.AuditRecord(previous_hash=b"\x01\xff"))["previous_hash"] == "01ff"
    assert plain(models_pb2.ModelManifest(metrics={"b": 1.0, "a": 2.0}))["metrics"] == {"a": 2.0, "b": 1.0}
