"""The protocol's configuration of a model says how it is really served."""

from pathlib import Path

import grpc

from lepton.contracts.pb import grpc_service_pb2 as oip
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import amounts, status, world

FIELDS = {"amount": "float", "count": "int", "known": "bool", "country": "category"}


async def test_it_names_tensors_limits_versions_and_where_it_runs(tmp_path: Path) -> None:
    async with world(tmp_path, request_rows=77) as here:
        await here.registry.apply("tiny", FIELDS, batching={
            "max_rows": 9, "max_delay_ms": 2, "queue_rows": 50, "preferred_rows": [8, 4], "priority_levels": 3,
            "default_priority": 2, "max_wait_ms": 200}, instances=2)
        await here.registry.publish("tiny", Linear(FIELDS, classes=("no", "yes")))

        async def told() -> oip.ModelConfig | None:
            index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True), metadata=here.metadata)
            if not index.models:
                return None
            found = await here.stub.ModelConfig(oip.ModelConfigRequest(name="tiny"), metadata=here.metadata)
            config: oip.ModelConfig = found.config
            return config if config.dynamic_batching.preferred_batch_size == [4, 8] else None

        config = await apoll_until(told, "the configuration")
        assert config is not None
        assert (config.name, config.platform, config.backend) == ("tiny", "onnxruntime_onnx", "onnxruntime")
        assert config.max_batch_size == 77
        batching = config.dynamic_batching
        assert (batching.max_queue_delay_microseconds, batching.default_queue_policy.max_queue_size) == (2000, 50)
        assert (batching.priority_levels, batching.default_priority_level) == (3, 2)
        assert batching.default_queue_policy.allow_timeout_override
        assert config.instance_group[0].count == 2
        assert [(one.name, oip.DataType.Name(one.data_type), list(one.dims), one.optional) for one in config.input] == [
            ("amount", "TYPE_FP64", [], False), ("count", "TYPE_INT64", [], False), ("known", "TYPE_BOOL", [], False),
            ("country", "TYPE_STRING", [], False), ("_missing", "TYPE_BOOL", [4], True)]
        assert [(one.name, list(one.dims)) for one in config.output] == [("label", []), ("probabilities", [2])]
        assert list(config.version_policy.specific.versions) == [1]
        assert config.instance_group[0].kind == oip.ModelInstanceGroup.KIND_CPU
        assert config.parameters["max_wait_us"].string_value == "200000"
        assert config.parameters["execution_provider"].string_value == "CPUExecutionProvider"
        assert config.parameters["task"].string_value == "MODEL_TASK_CLASSIFICATION"
        code, said = await status(here.stub.ModelConfig(oip.ModelConfigRequest(name="x"), metadata=here.metadata))
        assert (code, "there is no model `x` here" in said) == (grpc.StatusCode.NOT_FOUND, True)


async def test_what_one_request_may_hold_is_what_it_says(tmp_path: Path) -> None:
    async with world(tmp_path, request_rows=3) as here:
        await here.registry.publish("tiny", Linear({"amount": "float"}))
        await here.serving("tiny", 1)
        found = await here.stub.ModelConfig(oip.ModelConfigRequest(name="tiny", version="1"), metadata=here.metadata)
        most = found.config.max_batch_size
        await here.stub.ModelInfer(amounts("tiny", *range(most)), metadata=here.metadata)
        code, _ = await status(here.stub.ModelInfer(amounts("tiny", *range(most + 1)), metadata=here.metadata))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
