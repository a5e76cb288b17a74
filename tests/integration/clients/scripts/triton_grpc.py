"""tritonclient over gRPC, synchronous and streaming: every call of the protocol that it has, but shared memory."""

import queue

import echoed
import triton_calls as calls
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

LIMIT_S = 20


def main() -> None:
    with triton.InferenceServerClient(echoed.address()) as client:
        headers, operator = echoed.headers(), echoed.headers("admin")
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("mlp", headers=headers)
        assert not client.is_model_ready("nobody", headers=headers)
        assert client.get_server_metadata(headers=headers, as_json=True)["name"] == "lepton-of-the-test"
        told = client.get_model_metadata("mlp", headers=headers, as_json=True)
        assert told["inputs"][0]["shape"] == ["-1", "30"], told

        sent = echoed.arrays()
        result = client.infer("echo", calls.inputs(triton, sent), request_id="r-7", headers=headers,
                              outputs=calls.outputs(triton, sent))
        calls.check_result(result, sent)
        assert result.get_response().id == "r-7"
        for packed in ("gzip", "deflate"):
            small = client.infer("echo", calls.inputs(triton, sent), headers=headers, compression_algorithm=packed,
                                 outputs=calls.outputs(triton, sent))
            calls.check_result(small, sent)
        best = [triton.InferRequestedOutput("probabilities", class_count=1)]
        calls.check_classes(client.infer("mlp", calls.vectors(triton, 2), outputs=best, headers=headers))
        calls.check_config(client.get_model_config("mlp", headers=headers, as_json=True)["config"],
                           client.get_inference_statistics("mlp", headers=headers, as_json=True))
        stream(client, headers)
        refusals(client, headers)
        operate(client, headers, operator)


def stream(client: triton.InferenceServerClient, headers: dict[str, str]) -> None:
    """Answers come in the order of the requests; one that fails leaves the stream open."""
    came: queue.Queue[tuple[triton.InferResult | None, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: came.put((result, error)), headers=headers)
    for number in range(50):
        model = "nobody" if number == 25 else "mlp"
        client.async_stream_infer(model, calls.vectors(triton, 1 + number % 3), request_id=str(number))
    for number in range(50):
        result, error = came.get(timeout=LIMIT_S)
        if number == 25:
            assert error is not None
            assert "nobody" in str(error), error
        else:
            assert result is not None, error
            assert result.get_response().id == str(number)
            assert result.as_numpy("probabilities").shape == (1 + number % 3, 2)
    client.stop_stream()


def refusals(client: triton.InferenceServerClient, headers: dict[str, str]) -> None:
    def ends(status: str, model: str, tensors: list[triton.InferInput], **options: object) -> None:
        try:
            client.infer(model, tensors, **options)
        except InferenceServerException as error:
            assert error.status() == f"StatusCode.{status}", error
        else:
            raise AssertionError(f"{model} should have ended with {status}")

    ends("UNAUTHENTICATED", "mlp", calls.vectors(triton, 1))
    ends("NOT_FOUND", "nobody", calls.vectors(triton, 1), headers=headers)
    ends("NOT_FOUND", "mlp", calls.vectors(triton, 1), headers=headers, model_version="9")
    ends("INVALID_ARGUMENT", "mlp", calls.inputs(triton, echoed.arrays()), headers=headers)


def operate(client: triton.InferenceServerClient, headers: dict[str, str], operator: dict[str, str]) -> None:
    client.unload_model("other", headers=operator)
    index = client.get_model_repository_index(headers=headers, as_json=True)["models"]
    assert calls.index_of(index)["other"] == "UNAVAILABLE", index
    client.load_model("other", headers=operator)
    assert client.is_model_ready("other", headers=headers)
    assert client.get_trace_settings(headers=operator, as_json=True)["settings"]["trace_mode"]["value"]
    changed = client.update_log_settings({"log_verbose_level": 0}, headers=operator, as_json=True)
    assert "log_info" in changed["settings"], changed


main()
