"""tritonclient's own shared memory: inputs set in a region, outputs read from another, both registered over gRPC."""

import echoed
import numpy as np
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm

SIZE = 4 * 30 * 2


def main() -> None:
    client = triton.InferenceServerClient(echoed.address())
    operator = echoed.headers("admin")
    given = shm.create_shared_memory_region("lepton_in", "/lepton_test_in", SIZE)
    got = shm.create_shared_memory_region("lepton_out", "/lepton_test_out", 4 * 2 * 2)
    try:
        shm.set_shared_memory_region(given, [np.ones((2, 30), dtype=np.float32)])
        client.register_system_shared_memory("lepton_in", "/lepton_test_in", SIZE, headers=operator)
        client.register_system_shared_memory("lepton_out", "/lepton_test_out", 16, headers=operator)
        known = client.get_system_shared_memory_status(headers=operator, as_json=True)["regions"]
        assert set(known) == {"lepton_in", "lepton_out"}, known
        tensor = triton.InferInput("x", [2, 30], "FP32")
        tensor.set_shared_memory("lepton_in", SIZE)
        wanted = triton.InferRequestedOutput("probabilities")
        wanted.set_shared_memory("lepton_out", 16)
        result = client.infer("mlp", [tensor], outputs=[wanted], headers=operator)
        shape = result.get_output("probabilities").shape
        found = shm.get_contents_as_numpy(got, np.float32, list(shape))
        assert np.allclose(found.sum(axis=1), 1), found
        client.unregister_system_shared_memory(headers=operator)
        assert not client.get_system_shared_memory_status(headers=operator, as_json=True).get("regions")
    finally:
        shm.destroy_shared_memory_region(given)
        shm.destroy_shared_memory_region(got)


main()
