import json
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import pytest

from lepton.runtime import logs
from lepton.runtime.logs import LineFormatter, Restraint, message_of
from lepton.runtime.settings import LeptonSettings

FETCHER = "aiokafka.consumer.fetcher"
FETCH = "Failed fetch messages from %s: %s"
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def line(at: float, name: str = FETCHER, msg: object = FETCH, args: tuple[Any, ...] = (1, "NodeNotReadyError"),
         error: BaseException | None = None) -> logging.LogRecord:
    info: ExcInfo | None = (type(error), error, error.__traceback__) if error else None
    return logging.makeLogRecord({"name": name, "msg": msg, "args": args if msg == FETCH else (), "created": at,
                                  "levelno": logging.ERROR, "levelname": "ERROR", "exc_info": info})


def passed(*records: logging.LogRecord) -> list[str]:
    """What gets through one Restraint, as it reads."""
    restraint = Restraint()
    return [message_of(record) for record in records if restraint.filter(record)]


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_of_a_flood_the_first_line_passes_and_then_one_in_ten_seconds_that_counts_the_others() -> None:
    flood = [line(1000.0 + tick / 4) for tick in range(81)]
    assert passed(*flood) == [
        "Failed fetch messages from 1: NodeNotReadyError",
        "Failed fetch messages from 1: NodeNotReadyError … (39 more like it in 10 s)",
        "Failed fetch messages from 1: NodeNotReadyError … (39 more like it in 10 s)",
    ]


def test_a_line_that_comes_seldom_passes_as_it_is() -> None:
    assert passed(line(0.0), line(10.0), line(25.0)) == ["Failed fetch messages from 1: NodeNotReadyError"] * 3


def test_the_count_tells_the_time_it_was_taken_over() -> None:
    assert passed(line(0.0), line(1.0), line(90.0))[1].endswith(" … (1 more like it in 90 s)")


def test_lines_of_one_template_are_alike_whatever_was_filled_in() -> None:
    assert len(passed(line(0.0), line(1.0, args=(2, "RequestTimedOutError")))) == 1


def test_another_template_or_another_logger_is_another_kind() -> None:
    assert len(passed(line(0.0), line(0.1, msg="Heartbeat failed"), line(0.2, name="opentelemetry.exporter"))) == 3


@pytest.mark.parametrize("name", ["lepton.bus.consumer", "lepton_ai.cli", "services.ingest.app", "deploy.actuator",
                                  "root", "__main__"])
def test_our_own_lines_always_pass_as_they_are(name: str) -> None:
    assert passed(*(line(0.0, name) for _ in range(3))) == ["Failed fetch messages from 1: NodeNotReadyError"] * 3


def test_a_library_whose_name_only_begins_like_ours_is_a_library() -> None:
    assert len(passed(line(0.0, "leptonica"), line(0.1, "leptonica"))) == 1


def test_lines_about_an_exception_are_alike_by_its_type_and_place() -> None:
    errors = [raised(ConnectionError(f"try {number}")) for number in range(3)]
    assert len(passed(*(line(number / 10, msg=f"task {number} failed", error=error)
                        for number, error in enumerate(errors)))) == 1
    assert len(passed(*(line(number / 10, msg=error) for number, error in enumerate(errors)))) == 1


def test_another_type_of_exception_or_the_same_from_elsewhere_is_not_hidden() -> None:
    def elsewhere() -> Exception:
        try:
            raise ConnectionError("again")
        except ConnectionError as caught:
            return caught

    errors = [raised(ConnectionError("once")), raised(TimeoutError("once")), elsewhere()]
    assert len(passed(*(line(0.0, msg="task failed", error=error) for error in errors))) == 3


def test_a_clock_that_was_set_back_does_not_silence_a_kind() -> None:
    assert len(passed(line(10_000.0), line(6_400.0), line(6_401.0))) == 2
    assert len(passed(line(10.0), line(9.9))) == 1, "records of two threads may come out of order"


def test_templates_that_change_each_time_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_KINDS", 3)
    kinds = [line(number / 10, msg=f"request {number}") for number in range(4)]
    assert passed(*kinds, line(0.5, msg="request 3"), line(0.6, msg="request 0")) == [
        "request 0", "request 1", "request 2", "request 3", "request 0"], "the oldest was forgotten, the newest not"


def test_a_kind_that_still_comes_is_not_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_KINDS", 2)
    came = [(0.0, "a"), (1.0, "b"), (20.0, "a"), (21.0, "c"), (22.0, "a")]
    assert passed(*(line(at, msg=kind) for at, kind in came)) == ["a", "b", "a", "c"]


def test_two_handlers_of_one_record_hold_back_the_same() -> None:
    first, second = Restraint(), Restraint()
    for record in (line(float(at)) for at in range(21)):
        assert first.filter(record) == second.filter(record)
        assert message_of(record).count("more like it") == (record.created in (10.0, 20.0))


def test_a_line_shows_the_count_in_its_message_and_nowhere_else() -> None:
    restraint = Restraint()
    last = [record for record in (line(0.0), line(1.0), line(10.0)) if restraint.filter(record)][-1]
    shown = json.loads(LineFormatter("kiln", "kiln-0", as_json=True).format(last))
    assert shown["message"] == "Failed fetch messages from 1: NodeNotReadyError … (1 more like it in 10 s)"
    assert set(shown) == {"at", "level", "service", "instance", "logger", "message"}


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    names = ("aiokafka", "httpx", "httpcore", "pymongo", "uvicorn", "asyncio", "faust", "opentelemetry")
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:], level, levels = before
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


@pytest.mark.usefixtures("logging_restored")
def test_what_is_installed_holds_back(capsys: pytest.CaptureFixture[str]) -> None:
    logs.install(LeptonSettings(instance="kiln-0", log_format="text"))
    for _ in range(5):
        logging.getLogger(FETCHER).error(FETCH, 1, "NodeNotReadyError")
        logging.getLogger("lepton.kiln").error("cold")
    written = capsys.readouterr().err
    assert (written.count("NodeNotReadyError"), written.count("cold")) == (1, 5)
