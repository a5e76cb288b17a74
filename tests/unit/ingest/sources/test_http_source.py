"""JSON APIs as sources, over a real server: every kind of paging, a growing last page, and servers that misbehave."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from lepton.contracts.source_blocks import HttpSource
from lepton.errors import Invalid, Refused
from services.ingest.core.pulling.http import Paging, retry_after_s
from services.ingest.core.pulling.rows import Row
from tests.harness.api import Api, serving
from tests.unit.ingest.house import House, living
from tests.unit.ingest.sources.shop import VARIABLE, events, pulled, pulling, standing

PAGINGS: dict[str, dict[str, Any]] = {
    "plain": {}, "page": {"paging": "page", "page_size": Api.size},
    "offset": {"paging": "offset", "parameter": "from", "items": "data.rows"},
    "cursor": {"paging": "cursor", "parameter": "after", "items": "items", "next": "meta.next"},
    "link": {"paging": "link"}}


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    async with serving(Api()) as served:
        yield served


def orders(first: int, count: int) -> list[dict[str, Any]]:
    return [{"order": f"o-{number}", "customer": f"c-{number % 7}", "price": 1.0} for number in range(first, count)]


def source(api: Api, path: str, **changes: Any) -> dict[str, Any]:
    return {"name": "api", "kind": "http", "url": api.url(path), **PAGINGS[path], **changes}


async def test_every_item_comes_once_by_any_paging_though_the_last_page_grows_and_ingest_restarts(
        house: House, api: Api) -> None:
    api.items = orders(0, 27)
    async with living(house):
        await house.apply(pulling(*(source(api, path, name=path) for path in PAGINGS)))
        await pulled(house, 27 * len(PAGINGS))
        api.items += orders(27, 33)
        await pulled(house, 33 * len(PAGINGS))
    api.items += orders(33, 58)
    async with living(house):
        for path in PAGINGS:
            await standing(house, path, state="following", events=58)
    assert Counter((one["ce_source"], one["order"]) for one in await events(house)) == Counter(
        (f"source/{path}", f"o-{number}") for path in PAGINGS for number in range(58))


async def test_a_busy_or_broken_api_is_asked_again_and_a_token_is_sent(
        house: House, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.items, api.token = orders(0, 3), "s3cret-token"
    api.refusals = [(429, {"retry-after": "1"}, b""), (500, {}, b"oops"), (200, {}, b"<html>")]
    monkeypatch.setenv(VARIABLE, "wrong")
    async with living(house) as service:
        await house.apply(pulling(source(api, "plain", token_from=VARIABLE)))
        found = await standing(house, "api", state="failing")
        assert found["reason"].startswith("the API answers 401")
        monkeypatch.setenv(VARIABLE, api.token)
        await pulled(house, 3)
        found = await standing(house, "api", state="following")
        assert api.refusals == []
        assert api.token not in str(found) + str(service.health.report())


async def test_an_answer_too_large_is_not_taken_into_memory(house: House, api: Api) -> None:
    api.items = ["x" * 5000]
    async with living(house, http_max_bytes=2048):
        await house.apply(pulling(source(api, "plain")))
        found = await standing(house, "api", state="failing")
    assert found["reason"].startswith("the answer is larger than 2048 bytes")


async def test_items_that_are_no_objects_are_dead_letters(house: House, api: Api) -> None:
    api.items = [7, *orders(0, 1)]
    async with living(house):
        await house.apply(pulling(source(api, "plain")))
        await pulled(house, 1)
    assert [one["reason"] for one in await house.letters()] == ["malformed: is no JSON object"]


def paging(**changes: Any) -> Paging:
    return Paging(HttpSource(name="a", url="https://api.test/v1/x?since=3", **changes))


def test_a_next_link_to_another_host_is_refused_since_the_token_would_go_there() -> None:
    with pytest.raises(Refused, match="another host"):
        paging(paging="link").take({}, b"[]", ['<https://elsewhere.test/x>; rel="next"'])
    with pytest.raises(Refused, match="another host"):
        paging(paging="link").take({}, b"[]", ["<//api.test:8443/x>; rel=next"])


@pytest.mark.parametrize(("header", "expected"), [
    ('</v1/x?page=2>; rel="next"', "https://api.test/v1/x?page=2"),
    ('<?page=2>; rel=next', "https://api.test/v1/x?page=2"),
    ('<a>; rel="first", <b>; title="x; rel=\\"no\\""; rel="last next"', "https://api.test/v1/b"),
    ('<a>; rel="previous"', None), ("garbage", None), ("", None)])
def test_link_headers_are_read_as_rfc_8288_has_them(header: str, expected: str | None) -> None:
    page = paging(paging="link").take({}, b"[]", [header])
    assert page.cursor.get("url") == expected


def test_a_link_header_that_is_very_long_is_refused_and_not_searched() -> None:
    for header in ("<" * 1_000_000, '<a>;x="' * 150_000, "<a>;b" + " " * 1_000_000):
        with pytest.raises(Invalid, match="longer than 8192"):
            paging(paging="link").take({}, b"[]", [header])


@pytest.mark.parametrize("link", ["http://[x", "//api.test:99999/x", "//api.test:x/"])
def test_a_next_link_that_is_no_url_is_said_so(link: str) -> None:
    with pytest.raises(Invalid, match="the next link is no URL"):
        paging(paging="link").take({}, b"[]", [f"<{link}>; rel=next"])


def test_a_cursor_shows_no_query_and_no_token_of_a_page() -> None:
    page = paging(paging="link").take({}, b"[{}]", ["<?key=secret>; rel=next"])
    assert "secret" not in paging(paging="link").shown(page.cursor)


def test_an_api_without_pages_remembers_a_bounded_number_of_items() -> None:
    one = paging()
    cursor = one.take({}, b'[{"a": 1}, {"a": 2}]', []).cursor
    page = one.take(cursor, b'[{"a": 2}, {"a": 3}, {"a": 3}]', [])
    assert [row.values for row in page.items if isinstance(row, Row)] == [{"a": 3}]
    with pytest.raises(Invalid, match="no pages"):
        one.take({}, b"[" + b",".join(b"%d" % number for number in range(10_001)) + b"]", [])


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"\xff", b"[" * 100_000, b'{"items": 3}'])
def test_an_answer_of_another_form_is_invalid_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(Invalid):
        paging().take({}, body, [])


@pytest.mark.parametrize(("header", "seconds"), [
    (None, 5.0), ("7", 7.0), ("999999", 3600.0), ("soon", 5.0), ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
    ("Thu, 01 Jan 2015 00:00:30 GMT", 0.0)])
def test_retry_after_is_a_number_or_a_date_and_bounded(header: str | None, seconds: float) -> None:
    assert retry_after_s(header, datetime(2026, 1, 1, tzinfo=UTC), 5.0) == seconds
