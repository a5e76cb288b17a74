"""Plain requests, which the native door answers in batches of its own: each gets its own answer or its reason, as from
the Python door, whatever else comes over the wire.
"""

import asyncio
import struct
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from services.predictor.core.engine import Engine
from services.predictor.core.session import Session
from services.predictor.edge.rpc import wire
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.world import World, amounts, status, turned_away, world

ONE = {"amount": "float"}
MIXED = {"amount": "float", "country": "category", "known": "bool"}
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def raw(model: str, *values: float, request_id: str = "") -> oip.ModelInferRequest:
    """A request in raw tensors, as most clients send them."""
    request = oip.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name="amount", datatype="FP64", shape=[len(values)])
    request.raw_input_contents.append(np.array(values, dtype="<f8").tobytes())
    return request


def mixed(values: Sequence[float], countries: Sequence[str], known: Sequence[bool], *,
          typed: bool = False) -> oip.ModelInferRequest:
    """The same in tensors of three kinds; typed ones are always read by Python."""
    request = oip.ModelInferRequest(model_name="mixed", id="r-é")
    for name, datatype in (("amount", "FP64"), ("country", "BYTES"), ("known", "BOOL")):
        request.inputs.add(name=name, datatype=datatype, shape=[len(values)])
    texts = [country.encode() for country in countries]
    if typed:
        request.inputs[0].contents.fp64_contents.extend(values)
        request.inputs[1].contents.bytes_contents.extend(texts)
        request.inputs[2].contents.bool_contents.extend(known)
    else:
        request.raw_input_contents.extend([
            np.array(values, dtype="<f8").tobytes(), b"".join(struct.pack("<I", len(one)) + one for one in texts),
            np.array(known).tobytes()])
    return request


def numbers(response: oip.ModelInferResponse) -> list[float]:
    return [float(value) for value in np.frombuffer(response.raw_output_contents[0], dtype="<f4")]


def by_wire(here: World, model: str) -> float:
    """Requests of the model that the wire answered by itself."""
    line = f'lepton_predictor_wire_requests_total{{model="{model}"}} '
    return sum(float(one.removeprefix(line)) for one in here.metrics().splitlines() if one.startswith(line))


def ended_as(here: World, model: str, outcome: str) -> float:
    """Requests of the model that ended so; the Python door tells no version of those without an answer."""
    start = f'lepton_predictor_requests_total{{model="{model}",outcome="{outcome}",'
    return sum(float(one.rpartition(" ")[2]) for one in here.metrics().splitlines() if one.startswith(start))


async def known(here: World, door: str, *requests: oip.ModelInferRequest) -> None:
    """Wait until the wire, if it is the door, answers requests like these by itself."""
    for request in requests:
        before = by_wire(here, request.model_name)

        async def probe(request: oip.ModelInferRequest = request, before: float = before) -> bool:
            await here.stub.ModelInfer(request, metadata=here.metadata)
            return door == "python" or by_wire(here, request.model_name) > before
        await apoll_until(probe, "the wire to know the form", 20)


async def test_texts_and_numbers_get_the_same_bytes_however_they_are_sent(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("mixed", Linear(MIXED, classes=("no", "ja, größer")))
        values, countries, flags = [1.0, float("nan"), -7.5], ["us", "", "größer"], [True, False, True]

        async def answered() -> oip.ModelInferResponse | None:
            try:
                answer: oip.ModelInferResponse = await here.stub.ModelInfer(
                    mixed(values, countries, flags, typed=True), metadata=here.metadata)
            except grpc.aio.AioRpcError:
                return None
            return answer

        typed = await apoll_until(answered, "an answer", 10)
        await known(here, door, mixed(values, countries, flags))
        assert await here.stub.ModelInfer(mixed(values, countries, flags), metadata=here.metadata) == typed
        assert typed is not None
        assert (typed.id, typed.model_version) == ("r-é", "1")

        torn = mixed(values, countries, flags)
        torn.raw_input_contents[1] = torn.raw_input_contents[1][:-1]
        short = mixed(values, countries, flags)
        short.raw_input_contents[0] = short.raw_input_contents[0][:-1]
        latin = mixed(values, countries, flags)
        latin.raw_input_contents[1] = latin.raw_input_contents[1][:-8] + b"\xff" * 8
        for wrong, said in ((torn, "ends inside"), (short, "carries 23 bytes"), (latin, "not UTF-8")):
            code, told = await status(here.stub.ModelInfer(wrong, metadata=here.metadata))
            assert (code, said in told) == (grpc.StatusCode.INVALID_ARGUMENT, True), told


async def test_answers_are_never_mixed_up_between_requests_and_versions(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE, bias=1000.0))
        await here.serving("tiny", 1)
        await known(here, door, *(raw("tiny", *[0.0] * size) for size in range(1, 5)))
        versions: set[int] = set()

        async def ask(number: int) -> None:
            values = [float(number + row) for row in range(number % 4 + 1)]
            answer = await here.stub.ModelInfer(raw("tiny", *values, request_id=str(number)), metadata=here.metadata)
            version = int(answer.model_version)
            versions.add(version)
            assert (answer.id, numbers(answer)) == (str(number), [value + 1000.0 * version for value in values])

        for round_number in range(3):
            async with asyncio.TaskGroup() as group:
                for number in range(200):
                    group.create_task(ask(number))
                if round_number == 1:
                    await here.registry.publish("tiny", Linear(ONE, bias=2000.0))
            if round_number == 1:
                await here.serving("tiny", 2)
        assert versions == {1, 2}


async def test_what_was_answered_adds_up_in_statistics_metrics_and_log(tmp_path: Path, door: str) -> None:
    async with world(tmp_path, log_share=1.0) as here:
        await here.registry.apply("tiny", ONE)
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await known(here, door, raw("tiny", 1.0, 2.0, request_id="first"))
        asked = oip.ModelStatisticsRequest(name="tiny")

        async def counted() -> oip.ModelStatistics:
            found: oip.ModelStatisticsResponse = await here.stub.ModelStatistics(asked, metadata=here.metadata)
            return found.model_stats[0]

        before = await counted()
        for number in range(20):
            await here.stub.ModelInfer(raw("tiny", 1.0, float(number), request_id=f"n-{number}"),
                                       metadata=here.metadata)
        after = await counted()
        assert after.inference_stats.success.count - before.inference_stats.success.count == 20
        assert after.inference_count - before.inference_count == 40
        steps = after.inference_stats
        assert {one.count for one in (steps.queue, steps.compute_input, steps.compute_infer, steps.compute_output)} == {
            steps.success.count}
        assert (steps.queue.ns + steps.compute_input.ns + steps.compute_infer.ns + steps.compute_output.ns
                <= steps.success.ns)
        assert sum(one.compute_infer.count * one.batch_size for one in after.batch_stats) == after.inference_count
        await here.metric(f'lepton_predictor_requests_total{{model="tiny",outcome="ok",version="1"}} '
                          f'{float(steps.success.count)}')

        async def logged() -> bool:
            found = {one.event_id: one.number for one in await here.predictions("tiny", 40)}
            return all(found.get(f"n-{number}#1") == float(number) for number in range(20))
        await apoll_until(logged, "every answer in the log", 10)


async def test_what_waits_is_bounded_and_what_nobody_waits_for_is_not_run(tmp_path: Path, gate: Gate,
                                                                           door: str) -> None:
    async with world(tmp_path) as here:
        await here.registry.apply("slow", ONE, batching={"queue_rows": 64})
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        many = [0.5] * 32
        await known(here, door, raw("slow", *many))
        gate.close()
        first = asyncio.ensure_future(answered(here, raw("slow", *many)))
        await gate.holds()
        late = [here.stub.ModelInfer(raw("slow", *many), metadata=here.metadata, timeout=0.2) for _ in range(2)]
        given_up = [await status(call) for call in late]
        assert {code for code, _ in given_up} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        # What was given up made room; what comes now fills the queue, and the rest is told when to come back.
        rest = {asyncio.ensure_future(answered(here, raw("slow", *many))) for _ in range(5)}
        await turned_away(3, rest)
        gate.open()
        assert await asyncio.gather(first, *rest) == [many] * 3

        async def adds_up() -> bool:
            ended = {outcome: ended_as(here, "slow", outcome) for outcome in ("Busy", "TimeoutError", "cancelled")}
            return ended.pop("Busy") == 3 and sum(ended.values()) == len(late)
        await apoll_until(adds_up, "what was given up to be counted like what was refused", 10)


async def answered(here: World, request: oip.ModelInferRequest) -> list[float]:
    return numbers(await here.stub.ModelInfer(request, metadata=here.metadata))


async def test_a_batch_that_fails_ends_its_own_requests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                              door: str) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await known(here, door, raw("tiny", 1.0))
        with monkeypatch.context() as patch:
            for module in ("tensors", "plain.forms"):
                patch.setattr(f"services.predictor.core.{module}.to_raw", lambda _: 1 / 0)
            code, said = await status(here.stub.ModelInfer(raw("tiny", 1.0), metadata=here.metadata))
            assert (code, said) == (grpc.StatusCode.INTERNAL, "internal error; the server's log has it")
        assert await answered(here, raw("tiny", 2.0)) == [2.0]


async def test_short_batches_of_a_steady_model_run_where_they_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                        door: str) -> None:
    threads: set[int] = set()
    shared: set[int] = set()
    run = Session.run

    def seen(session: Session, arrays: Any) -> Any:
        threads.add(threading.get_ident())
        if len(arrays["amount"]) > 1:
            shared.add(threading.get_ident())
        return run(session, arrays)

    monkeypatch.setattr(Session, "run", seen)
    monkeypatch.setattr(Engine, "is_steady", property(lambda engine: engine.manifest.model == "steady"))
    async with world(tmp_path) as here:
        for model in ("winding", "steady"):
            await here.registry.publish(model, Linear(ONE))
            await here.serving(model, 1)
        await known(here, door, raw("winding", 1.0), raw("steady", 1.0))
        threads.clear()
        for _ in range(5):
            assert await answered(here, raw("winding", 1.0)) == [1.0]
        beside, main = set(threads), threading.get_ident()
        assert len(beside) == 1
        assert (beside == {main}) == (door == "python")

        async def here_too() -> bool:
            assert await answered(here, raw("steady", 2.0)) == [2.0]
            return door == "python" or bool(threads - beside)
        await apoll_until(here_too, "a run on the thread that reads", 20)
        assert len(threads) == (1 if door == "python" else 2)
        assert (main in threads) == (door == "python")

        async def together() -> bool:
            told = await asyncio.gather(*(answered(here, raw("steady", 2.0)) for _ in range(30)))
            assert told == [[2.0]] * 30
            return door == "python" or bool(shared - beside)
        await apoll_until(together, "a batch of several on the thread that reads", 20)


async def test_a_stream_of_plain_requests_is_answered_in_order_and_ends_with_its_half(tmp_path: Path,
                                                                                     door: str) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await known(here, door, raw("tiny", 1.0))

        async def requests() -> AsyncIterator[oip.ModelInferRequest]:
            for number in range(500):
                kind = amounts if number % 7 == 0 else raw
                yield kind("absent" if number == 50 else "tiny", float(number), request_id=str(number))

        answers = [answer async for answer in here.stub.ModelStreamInfer(requests(), metadata=here.metadata)]
        assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(500)]
        assert [number for number, answer in enumerate(answers) if answer.error_message] == [50]
        assert [numbers(answer.infer_response) for answer in answers if not answer.error_message] == [
            [float(number)] for number in range(500) if number != 50]


async def test_callers_who_leave_break_off_or_talk_nonsense_cost_only_their_own_call(tmp_path: Path,
                                                                                    door: str) -> None:
    async with world(tmp_path, request_bytes=4096) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await known(here, door, raw("tiny", 1.0))
        unread: Any = here.channel.stream_unary(METHOD)
        good = raw("tiny", 1.0).SerializeToString()
        nonsense = [[b"\xff" * 40], [good[:-3]], [b"x" * 5000]]
        if door == "native":
            # grpc.aio lets a call that ends without a message wait for its deadline.
            nonsense += [[], [good, good]]
        for sent in nonsense:
            code, _ = await status(unread(iter(sent), metadata=here.metadata))
            assert code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT,
                            grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED,
                            grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}, sent
        host, _, port = here.address.rpartition(":")
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200, b"\0" * 64):
            reader, writer = await asyncio.open_connection(host, int(port))
            with suppress(OSError):
                writer.write(noise)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 20)
            writer.close()
        for _ in range(20):
            call = here.stub.ModelInfer(raw("tiny", 1.0), metadata=here.metadata)
            await asyncio.wait({asyncio.ensure_future(call.wait_for_connection())}, timeout=0)
            call.cancel()
        assert await answered(here, raw("tiny", 2.0)) == [2.0]


async def test_a_new_version_hands_no_request_to_the_python_door(tmp_path: Path, door: str) -> None:
    if door == "python":
        pytest.skip("there is no wire")
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE, bias=1.0))
        await here.serving("tiny", 1)
        await known(here, door, raw("tiny", 1.0), raw("tiny", 1.0, 2.0))
        before, asked = by_wire(here, "tiny"), 0
        for version in (2, 3):
            await here.registry.publish("tiny", Linear(ONE, bias=float(version)))

            async def newer(version: int = version) -> bool:
                nonlocal asked
                asked += 2
                await here.stub.ModelInfer(raw("tiny", 1.0, 2.0), metadata=here.metadata)
                answer = await here.stub.ModelInfer(raw("tiny", 1.0), metadata=here.metadata)
                assert numbers(answer) == [1.0 + int(answer.model_version)]
                return bool(answer.model_version == str(version))

            await apoll_until(newer, "the new version to answer", 20)

        async def counted() -> bool:
            return by_wire(here, "tiny") - before == asked

        await apoll_until(counted, "every request to be counted as the wire's", 10)


async def test_more_forms_than_the_door_keeps_are_learnt_again_after_a_swap(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str) -> None:
    if door == "python":
        pytest.skip("there is no wire")
    monkeypatch.setattr(wire, "MOST_KEPT", 2)
    monkeypatch.setattr(wire, "MOST_KEPT_BYTES", 500)
    sizes = (1, 2, 3, 100)
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE, bias=1.0))
        await here.serving("tiny", 1)
        await known(here, door, *(raw("tiny", *[1.0] * size) for size in sizes))
        await here.registry.publish("tiny", Linear(ONE, bias=2.0))

        async def newer() -> bool:
            answer = await here.stub.ModelInfer(raw("tiny", 5.0), metadata=here.metadata)
            return bool(answer.model_version == "2")

        await apoll_until(newer, "the new version to answer", 20)
        for size in sizes:
            answer = await here.stub.ModelInfer(raw("tiny", *[1.0] * size), metadata=here.metadata)
            assert numbers(answer) == [3.0] * size
        await known(here, door, *(raw("tiny", *[1.0] * size) for size in sizes))
