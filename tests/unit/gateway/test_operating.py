"""The protocol's REST form for operators: every replica is asked, and shared memory is for callers of this machine."""

from typing import Any

import grpc

from lepton.contracts.pb import grpc_service_pb2 as inference
from tests.unit.gateway.house import House, predictor

INFER = "/v2/models/shop/infer"
REGION = {"shared_memory_region": "in", "shared_memory_byte_size": 8, "shared_memory_offset": 16}
PART = {"key": "/made", "byte_size": 64, "offset": 8}


async def test_a_region_is_registered_with_every_replica_or_with_none(house: House) -> None:
    async with predictor(house, "predictor-0") as (first, _), predictor(house, "predictor-1") as (second, _):
        path = "/v2/systemsharedmemory/region/in"
        assert (await house.admin.post(f"{path}/register", json=PART)).status_code == 200
        asked: list[Any] = [said.asked[-1] for said in (first, second)]
        assert [(one.name, one.key, one.offset, one.byte_size) for one in asked] == [("in", "/made", 8, 64)] * 2
        assert (await house.admin.get("/v2/systemsharedmemory/status")).json() == [
            {"name": "in", "key": "/made", "offset": 8, "byte_size": 64}]

        for broken in (first, second):
            broken.fails = (grpc.StatusCode.NOT_FOUND, "no such object")
            before = [len(said.asked) for said in (first, second)]
            assert (await house.admin.post(f"{path}/register", json=PART)).status_code == 404
            broken.fails = None
            # Whoever had it registered let it go again, and the others were not asked.
            said = [[type(one).__name__.removeprefix("SystemSharedMemory") for one in each.asked[start:]]
                    for each, start in zip((first, second), before, strict=True)]
            assert all(one[:1] != ["RegisterRequest"] or one[1:] == ["UnregisterRequest"]
                       for each, one in zip((first, second), said, strict=True) if each is not broken)
        assert (await house.admin.post(f"{path}/unregister")).status_code == 200
        assert (await house.admin.post("/v2/systemsharedmemory/unregister")).status_code == 200
        assert [said.asked[-1].name for said in (first, second)] == ["", ""]


async def test_what_operates_a_server_needs_the_scope_admin(house: House) -> None:
    caller = await house.with_scopes("predict", "train", "read", "write")
    async with predictor(house):
        for path in ("systemsharedmemory/status", "cudasharedmemory/status", "trace/setting",
                     "models/shop/trace/setting", "logging"):
            assert (await caller.get(f"/v2/{path}")).status_code == 403
        for path in ("systemsharedmemory/region/in/register", "systemsharedmemory/unregister", "logging",
                     "cudasharedmemory/region/in/register", "cudasharedmemory/region/in/unregister"):
            assert (await caller.post(f"/v2/{path}")).status_code == 403


async def test_tensors_in_shared_memory_are_passed_on_for_callers_of_this_machine_alone(house: House) -> None:
    placed: dict[str, Any] = {"name": "price", "datatype": "FP64", "shape": [1], "parameters": REGION}
    body = {"inputs": [placed, {"name": "colour", "datatype": "BYTES", "shape": [1], "data": ["red"]}],
            "outputs": [{"name": "price", "parameters": {**REGION, "shared_memory_region": "out"}}]}
    async with predictor(house) as (said, _):
        said.answers = inference.ModelInferResponse(model_name="shop", model_version="7")
        assert (await house.admin.post(INFER, json=body)).is_success
        asked: Any = said.asked[-1]
        assert _told(asked.inputs[0]) == REGION
        assert (list(asked.raw_input_contents), len(asked.inputs[1].parameters)) == ([b"\x03\x00\x00\x00red"], 0)
        assert asked.outputs[0].parameters["shared_memory_region"].string_param == "out"
        count = len(said.asked)
        for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
            away = await house.admin.post(INFER, json=body, headers={header: "192.0.2.7"})
            assert (away.status_code, "same machine" in away.text) == (409, True)
            for path in ("status", "unregister", "region/in/register"):
                asking = house.admin.get if path == "status" else house.admin.post
                found = await asking(f"/v2/systemsharedmemory/{path}", headers={header: "192.0.2.7"})
                assert found.status_code == 409, path
        assert len(said.asked) == count
        both = {**placed, "data": [1.0]}
        assert (await house.admin.post(INFER, json={"inputs": [both]})).status_code == 422


def _told(tensor: Any) -> dict[str, Any]:
    return {name: one.string_param or one.int64_param for name, one in tensor.parameters.items()}


async def test_an_output_that_was_put_into_shared_memory_says_where_it_lies(house: House) -> None:
    async with predictor(house) as (said, _):
        placed = inference.ModelInferResponse(model_name="shop", model_version="7")
        output = placed.outputs.add(name="score", datatype="FP64", shape=[1])
        output.parameters["shared_memory_region"].string_param = "out"
        output.parameters["shared_memory_byte_size"].int64_param = 8
        placed.raw_output_contents.append(b"")
        said.answers = placed
        answer = await house.admin.post(INFER, json={"inputs": [
            {"name": "price", "datatype": "FP64", "shape": [1], "data": [1.0]}]})
        assert answer.json()["outputs"] == [{"name": "score", "datatype": "FP64", "shape": [1], "parameters": {
            "shared_memory_region": "out", "shared_memory_byte_size": 8}}]


async def test_settings_come_and_go_in_the_forms_of_the_protocol(house: House) -> None:
    async with predictor(house) as (said, _):
        told = await house.admin.post("/v2/models/shop/trace/setting", json={
            "trace_level": ["OFF", "TIMESTAMPS"], "trace_rate": 5, "trace_count": None})
        asked: Any = said.asked[-1]
        assert asked.model_name == "shop"
        assert {name: list(one.value) for name, one in asked.settings.items()} == {
            "trace_level": ["OFF", "TIMESTAMPS"], "trace_rate": ["5"], "trace_count": []}
        assert told.json() == {"trace_level": ["OFF", "TIMESTAMPS"], "trace_rate": "5", "trace_count": ""}
        wanted = {"log_info": True, "log_verbose_level": 1, "log_format": "default"}
        assert (await house.admin.post("/v2/logging", json={**wanted, "log_file": None})).json() == wanted
        for path, wrong in (("logging", {"log_info": [1]}), ("logging", {"log_verbose_level": -1}),
                            ("trace/setting", {"trace_rate": {}})):
            assert (await house.admin.post(f"/v2/{path}", json=wrong)).status_code == 422
        assert (await house.admin.post("/v2/logging", content=b"[")).status_code == 400
