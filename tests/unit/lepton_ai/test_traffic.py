"""How busy a model is comes from the predictors' counters, and is unknown where they cannot be read."""

from collections.abc import Iterator
from typing import Any

import pytest

from lepton.clock import FakeClock
from lepton_ai._monitor.traffic import Looks, Traffic
from tests.unit.lepton_ai.doors import Desk, open_door

PAGE = """# HELP lepton_predictor_requests_total Requests answered
lepton_predictor_requests_total{{model="m",outcome="ok",version="1"}} {requests}
lepton_predictor_requests_total{{model="m",outcome="invalid",version="2"}} 2.0
lepton_predictor_requests_total{{model="mm",outcome="ok",version="1"}} 900.0
lepton_predictor_scored_rows_total{{model="m",version="1"}} {rows}
"""


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def predictor(desk: Desk) -> Iterator[dict[str, Any]]:
    with open_door(desk) as credentials:
        yield {"service": "predictor", "boot_id": "b1", "admin_address": credentials.rest.removeprefix("http://")}


async def test_counters_become_rates_from_the_second_look_on(desk: Desk, predictor: dict[str, Any]) -> None:
    clock = FakeClock()
    looks = Looks(clock)
    desk.metrics = PAGE.format(requests="3.0", rows="1e+03")
    assert await looks.look("m", [predictor, {"service": "ingest"}]) == Traffic(5, 1000)
    await clock.advance(2)
    desk.metrics = PAGE.format(requests="7.0", rows="1010.0")
    traffic = await looks.look("m", [predictor])
    assert traffic == Traffic(9, 1010, 2.0, 5.0)
    assert str(traffic) == "answered: 9 requests, 1010 streamed rows; now 2 requests/s, 5 rows/s"


async def test_a_restarted_predictor_begins_anew(desk: Desk, predictor: dict[str, Any]) -> None:
    clock = FakeClock()
    looks = Looks(clock)
    desk.metrics = PAGE.format(requests="3.0", rows="0")
    await looks.look("m", [predictor])
    await clock.advance(2)
    desk.metrics = ""
    assert await looks.look("m", [{**predictor, "boot_id": "b2"}]) == Traffic(0, 0)


async def test_two_looks_at_once_give_no_rate(desk: Desk, predictor: dict[str, Any]) -> None:
    looks = Looks(FakeClock())
    await looks.look("m", [predictor])
    assert await looks.look("m", [predictor]) == Traffic(0, 0)


async def test_what_cannot_be_read_is_unknown(predictor: dict[str, Any]) -> None:
    looks = Looks(FakeClock())
    assert await looks.look("m", []) is None
    assert await looks.look("m", [predictor, {**predictor, "admin_address": "127.0.0.1:9"}]) is None
