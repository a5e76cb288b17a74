"""tritonclient over HTTP: tensors as JSON and as raw bytes behind it, metadata, statistics, the repository.

Each call gets headers of its own: this client writes the length of its JSON into the mapping it is given.
"""

import echoed
import triton_calls as calls
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def main() -> None:
    with triton.InferenceServerClient(echoed.address(), concurrency=4) as client:
        operator = echoed.headers("admin")
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("mlp", headers=echoed.headers())
        assert client.get_server_metadata(headers=echoed.headers())["name"] == "lepton-of-the-test"
        assert client.get_model_metadata("mlp", headers=echoed.headers())["inputs"][0]["shape"] == [-1, 30]

        sent = echoed.arrays()
        for binary in (True, False):
            # JSON has no 16-bit floats.
            some = {name: array for name, array in sent.items() if binary or name != "FP16"}
            result = client.infer("echo", calls.inputs(triton, some, binary_data=binary), request_id="r-8",
                                  outputs=calls.outputs(triton, some, binary_data=binary), headers=echoed.headers())
            calls.check_result(result, some)
            assert result.get_response()["id"] == "r-8"
        for there, back in (("gzip", "deflate"), ("deflate", "gzip")):
            small = client.infer("mlp", calls.vectors(triton, 2), headers=echoed.headers(),
                                 request_compression_algorithm=there, response_compression_algorithm=back)
            assert small.as_numpy("probabilities").shape == (2, 2)
        plain = client.infer("mlp", calls.vectors(triton, 2), headers=echoed.headers())
        assert plain.as_numpy("probabilities").shape == (2, 2)
        best = [triton.InferRequestedOutput("probabilities", class_count=1)]
        calls.check_classes(client.infer("mlp", calls.vectors(triton, 2), outputs=best, headers=echoed.headers()))
        calls.check_config(client.get_model_config("mlp", headers=echoed.headers()),
                           client.get_inference_statistics("mlp", headers=echoed.headers()))
        futures = [client.async_infer("mlp", calls.vectors(triton, 1), headers=echoed.headers()) for _ in range(20)]
        assert all(one.get_result().as_numpy("label").shape == (1,) for one in futures)

        try:
            client.infer("nobody", calls.vectors(triton, 1), headers=echoed.headers())
        except InferenceServerException as error:
            assert "nobody" in error.message(), error
        else:
            raise AssertionError("an unknown model answered")
        client.unload_model("other", headers=operator)
        assert calls.index_of(client.get_model_repository_index(headers=echoed.headers()))["other"] == "UNAVAILABLE"
        client.load_model("other", headers=operator)
        assert calls.index_of(client.get_model_repository_index(headers=echoed.headers()))["other"] == "READY"


main()
