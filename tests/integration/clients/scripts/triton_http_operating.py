"""tritonclient over HTTP as its operator uses it: shared memory, trace settings, log settings."""

import echoed
import numpy as np
import tritonclient.http as triton
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

SIZE = 4 * 30 * 2


def share(client: triton.InferenceServerClient) -> None:
    given = shm.create_shared_memory_region("rest_in", "/lepton_test_rest_in", SIZE)
    got = shm.create_shared_memory_region("rest_out", "/lepton_test_rest_out", 4 * 2 * 2)
    try:
        shm.set_shared_memory_region(given, [np.ones((2, 30), dtype=np.float32)])
        client.register_system_shared_memory("rest_in", "/lepton_test_rest_in", SIZE, headers=echoed.headers("admin"))
        client.register_system_shared_memory("rest_out", "/lepton_test_rest_out", 16, headers=echoed.headers("admin"))
        known = client.get_system_shared_memory_status(headers=echoed.headers("admin"))
        assert {(one["name"], one["byte_size"]) for one in known} == {("rest_in", SIZE), ("rest_out", 16)}, known
        (one,) = client.get_system_shared_memory_status("rest_in", headers=echoed.headers("admin"))
        assert one["key"] == "/lepton_test_rest_in", one
        tensor = triton.InferInput("x", [2, 30], "FP32")
        tensor.set_shared_memory("rest_in", SIZE)
        wanted = triton.InferRequestedOutput("probabilities", binary_data=False)
        wanted.set_shared_memory("rest_out", 16)
        result = client.infer("mlp", [tensor], outputs=[wanted], headers=echoed.headers())
        told = result.get_output("probabilities")
        assert told["parameters"]["shared_memory_region"] == "rest_out", told
        found = shm.get_contents_as_numpy(got, np.float32, told["shape"])
        assert np.allclose(found.sum(axis=1), 1), found
        try:
            client.register_system_shared_memory("rest_in", "/lepton_test_rest_in", 4, headers=echoed.headers("admin"))
        except InferenceServerException as error:
            assert "registered already" in error.message(), error
        else:
            raise AssertionError("a name was registered twice")
        client.unregister_system_shared_memory("rest_out", headers=echoed.headers("admin"))
        client.unregister_system_shared_memory(headers=echoed.headers("admin"))
        assert client.get_system_shared_memory_status(headers=echoed.headers("admin")) == []
    finally:
        shm.destroy_shared_memory_region(given)
        shm.destroy_shared_memory_region(got)
    assert client.get_cuda_shared_memory_status(headers=echoed.headers("admin")) == []
    client.unregister_cuda_shared_memory(headers=echoed.headers("admin"))


def settings(client: triton.InferenceServerClient) -> None:
    told = client.get_trace_settings(headers=echoed.headers("admin"))
    assert (told["trace_mode"], told["trace_level"], told["trace_rate"]) == ("opentelemetry", ["OFF"], "0"), told
    assert client.get_trace_settings("mlp", headers=echoed.headers("admin")) == told
    assert client.update_trace_settings(settings={"trace_level": ["OFF"], "trace_rate": None},
                                        headers=echoed.headers("admin")) == told
    try:
        client.update_trace_settings("mlp", settings={"trace_rate": "5"}, headers=echoed.headers("admin"))
    except InferenceServerException as error:
        assert "trace_rate" in error.message(), error
    else:
        raise AssertionError("another trace rate was taken")
    before = client.get_log_settings(headers=echoed.headers("admin"))
    changed = client.update_log_settings({"log_verbose_level": 1, "log_info": True}, headers=echoed.headers("admin"))
    assert changed["log_verbose_level"] == 1, changed
    assert client.update_log_settings(before, headers=echoed.headers("admin")) == before


def main() -> None:
    with triton.InferenceServerClient(echoed.address()) as client:
        share(client)
        settings(client)


main()
