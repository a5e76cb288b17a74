"""A log store is asked in LogsQL and read as documented: https://docs.victoriametrics.com/victorialogs/querying/."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from lepton.errors import Invalid, Refused, Unavailable
from lepton_ai._logs import entries
from lepton_ai._logs.entries import Level, Wanted
from lepton_ai._logs.store import Source, Store, query

TRACE = "0af7651916cd43dd8448eb211c80319c"
# What the store makes of a record that a service sent by OpenTelemetry: strings, in order of their names.
HELD = {"_msg": "lost", "_stream": '{service.name="ingest"}', "_stream_id": "00", "_time": "2026-11-22T10:00:02.5Z",
        "exception.message": "'x'", "exception.stacktrace": "Traceback\nKeyError: 'x'\n", "exception.type": "KeyError",
        "logger": "services.ingest", "place": "accept", "scope.name": "lepton", "scope.version": "unknown",
        "service.instance.id": "ingest-0", "service.name": "ingest", "service.namespace": "lepton",
        "severity_number": "17", "severity_text": "ERROR", "span_id": "b7ad6b7169203331",
        "telemetry.sdk.name": "opentelemetry", "trace_id": TRACE}
EARLIER = {"_msg": "batch", "_time": "2026-11-22T10:00:01.123456789Z", "service.name": "ingest"}


class Door(BaseHTTPRequestHandler):
    """Answers POST with a form as body, a JSON object a line; a query it cannot parse with 400 and a text."""

    asked: list[tuple[str, dict[str, list[str]]]]
    answer: tuple[int, str]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode(), strict_parsing=True)
        self.asked.append((self.path, form))
        self.send_response(self.answer[0])
        self.send_header("content-type", "application/stream+json")
        self.end_headers()
        self.wfile.write(self.answer[1].encode())

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def door() -> Iterator[tuple[type[Door], str]]:
    class Own(Door):
        pass

    Own.asked = []
    Own.answer = (200, json.dumps(HELD) + "\n" + json.dumps(EARLIER) + "\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Own, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_is_wanted_is_said_in_logsql() -> None:
    assert query(Wanted(), Source()) == "*"
    wanted = Wanted(pattern=entries.pattern(r'"\d+"'), level=Level.WARNING, trace=TRACE)
    assert query(wanted, Source(["ingest-0"], ["gateway", "trainer"])) == (
        '("service.instance.id":in("ingest-0") or "service.name":in("gateway", "trainer")) severity_number:>=13 '
        f'trace_id:="{TRACE}" ("_msg":~"\\"\\\\d+\\"" or "exception.message":~"\\"\\\\d+\\""'
        ' or "exception.stacktrace":~"\\"\\\\d+\\"")')


def test_answers_are_put_in_order_and_read_as_lines_of_a_service(door: tuple[type[Door], str]) -> None:
    handler, url = door
    first, second = Store(url).newest(Wanted(since=entries.moment("2026-11-22T09:00:00Z")), Source(), 50)
    assert handler.asked == [("/select/logsql/query", {
        "query": ["*"], "limit": ["50"], "start": ["2026-11-22T09:00:00.000Z"]})]
    assert (first.message, first.source) == ("batch", "ingest")
    assert second.text() == (f"2026-11-22T10:00:02.500Z error   ingest-0 lost trace_id={TRACE} logger=services.ingest "
                             "place=accept span_id=b7ad6b7169203331\nTraceback\nKeyError: 'x'")


def test_following_reads_the_tail(door: tuple[type[Door], str]) -> None:
    handler, url = door
    assert [entry.message for entry in Store(f"{url}/logs/").follow(Wanted(), Source())] == ["lost", "batch"]
    assert handler.asked == [("/logs/select/logsql/tail", {"query": ["*"]})]


def test_what_the_store_does_not_do_is_told_by_its_name(door: tuple[type[Door], str]) -> None:
    handler, url = door
    store = Store(url.replace("//", "//user:geheim@"))
    handler.answer = (400, "cannot parse query: invalid regexp \"(?=\"")
    with pytest.raises(Invalid, match="invalid regexp") as failure:
        store.newest(Wanted(), Source(), 1)
    assert "geheim" not in str(failure.value)
    handler.answer = (401, "")
    with pytest.raises(Refused, match="401"):
        store.newest(Wanted(), Source(), 1)
    handler.answer = (200, "<html>\n")
    with pytest.raises(Unavailable, match="JSON lines"):
        store.newest(Wanted(), Source(), 1)
    with pytest.raises(Invalid, match="no URL"):
        Store("localhost:9428")
    with pytest.raises(Unavailable, match="does not answer"):
        Store("http://127.0.0.1:9").newest(Wanted(), Source(), 1)
