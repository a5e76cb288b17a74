"""How the pages of a JSON API are asked for, what of an answer is new, and where its next page is."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from lepton.contracts.source_blocks import HttpSource
from lepton.errors import Invalid, Refused
from services.ingest.core.pulling.rows import MAX_RAW_BYTES, Bad, Item, Row
from services.ingest.core.pulling.state import Cursor

MAX_SEEN = 10_000
"""Items of an API without pages that are remembered; one that was away for so many others is sent again."""
_DIGEST_BYTES = 8
# Possessive, and of a bounded length: what another server says must not keep a search going back and forth.
_LINK = re.compile(
    r"<([^<>]*+)>((?:\s*+;\s*+[\w!#$&+.^`|~-]++\*?\s*+(?:=\s*+(?:\"(?:[^\"\\]|\\.)*+\"|[^\s\",;]*+))?+)*+)")
MAX_LINK_CHARACTERS = 8192
_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s\",;]*))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """What of one answer is new, and where to go on. `more`: another page is there already."""

    items: list[Item]
    cursor: Cursor
    more: bool


class Paging:
    """Of one source. A page that is not full yet is asked for again, and what was taken of it is left out by count."""

    def __init__(self, source: HttpSource) -> None:
        self._source = source
        self._form = source.paging

    def ask(self, cursor: Cursor) -> tuple[str, dict[str, str]]:
        """URL and query parameters of the next request."""
        source, parameters = self._source, dict[str, str]()
        if source.size_parameter is not None:
            parameters[source.size_parameter] = str(source.page_size)
        if self._form == "link" and cursor.get("url"):
            return str(cursor["url"]), {}
        if self._form == "page":
            parameters[source.parameter] = str(cursor.get("page", source.first_page))
        elif self._form == "offset":
            parameters[source.parameter] = str(cursor.get("offset", 0))
        elif self._form == "cursor" and cursor.get("token") is not None:
            parameters[source.parameter] = str(cursor["token"])
        return source.url, parameters

    def take(self, cursor: Cursor, body: bytes, links: Sequence[str]) -> Page:
        """`links`: values of the answer's Link headers. Raises Invalid for an answer of another form, Refused for a
        next link that leads to another host."""
        answer = _decoded(body)
        items = _reach(answer, self._source.items)
        if not isinstance(items, list):
            raise Invalid("the answer holds no list there", field="items",
                          remedy="give the dotted path to the list, or leave items out when the answer is the list")
        if self._form == "none":
            return self._unpaged(cursor, items)
        if self._form == "offset":
            first = int(cursor.get("offset", 0))
            return Page(_read(items, 0, lambda index: f"{first + index}"), {"offset": first + len(items)}, bool(items))
        return self._paged(cursor, items, answer, links)

    def shown(self, cursor: Cursor) -> str:
        """The cursor for a person, without a query that may hold a secret."""
        if self._form == "none":
            return f"{len(cursor.get('seen', b'')) // _DIGEST_BYTES} items known"
        if self._form == "offset":
            return f"offset {cursor.get('offset', 0)}"
        taken = f", {cursor.get('taken', 0)} items of it"
        if self._form == "page":
            return f"page {cursor.get('page', self._source.first_page)}{taken}"
        place = cursor.get("token" if self._form == "cursor" else "url")
        if place is None:
            return f"first page{taken}"
        return f"page {_digest(str(place).encode()).hex()[:8]}{taken}"

    def _paged(self, cursor: Cursor, items: list[Any], answer: Any, links: Sequence[str]) -> Page:
        taken, page = int(cursor.get("taken", 0)), self._page_name(cursor)
        found = _read(items, taken, lambda index: f"{page}/{index}")
        stay = {**cursor, "taken": max(taken, len(items))}
        if self._form == "page":
            number = int(cursor.get("page", self._source.first_page))
            full = len(items) >= self._source.page_size
            return Page(found, {"page": number + 1} if full else {**stay, "page": number}, full)
        following = self._following(cursor, answer, links)
        if following is None:
            return Page(found, stay, False)
        return Page(found, following, True)

    def _following(self, cursor: Cursor, answer: Any, links: Sequence[str]) -> Cursor | None:
        """The cursor of the next page, when there is one and it is another than this."""
        source = self._source
        if self._form == "cursor":
            token = _reach(answer, source.next or "")
            if token is None or token == "" or token == cursor.get("token"):
                return None
            if not isinstance(token, str | int) or isinstance(token, bool) or len(str(token)) > 4096:
                raise Invalid("the next cursor is neither text nor a number, or very long", field="next")
            return {"token": token}
        asked = str(cursor.get("url") or source.url)
        link = _reach(answer, source.next) if source.next is not None else next(_next_links(links), None)
        if link is None or link == "":
            return None
        if not isinstance(link, str) or len(link) > 4096:
            raise Invalid("the next link is no text, or very long", field="next")
        try:
            url = urljoin(asked, link)
            there = _origin(url)
        except ValueError as error:
            raise Invalid(f"the next link is no URL: {error}", field="next") from error
        if there != _origin(source.url):
            raise Refused("the next link leads to another host", field="next", place=there,
                          remedy="the token would go there; name that host in url")
        return None if url == asked else {"url": url}

    def _unpaged(self, cursor: Cursor, items: list[Any]) -> Page:
        if len(items) > MAX_SEEN:
            raise Invalid(f"the answer has more than {MAX_SEEN} items and no pages", field="paging",
                          remedy="choose a kind of paging, so that only new ones are asked for")
        kept = cursor.get("seen", b"")
        known = dict.fromkeys(kept[start:start + _DIGEST_BYTES] for start in range(0, len(kept), _DIGEST_BYTES))
        found: list[Item] = []
        for item in items:
            digest = _digest(msgspec.json.encode(item, order="deterministic"))
            if digest not in known:
                found += _read([item], 0, lambda _, digest=digest: digest.hex())
            # Those seen last are forgotten last.
            known.pop(digest, None)
            known[digest] = None
        newest = list(known)[-MAX_SEEN:]
        return Page(found, {"seen": b"".join(newest)}, False)

    def _page_name(self, cursor: Cursor) -> str:
        if self._form == "page":
            return str(cursor.get("page", self._source.first_page))
        place = cursor.get("token" if self._form == "cursor" else "url")
        return "first" if place is None else _digest(str(place).encode()).hex()


def retry_after_s(header: str | None, now: datetime, otherwise: float) -> float:
    """Seconds a Retry-After header asks to wait: a number, or a date (RFC 9110 §10.2.3); an hour at most."""
    if header is None:
        return otherwise
    if header.strip().isdigit() and header.isascii():
        return min(float(header), 3600.0)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return otherwise
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(max((aware - now).total_seconds(), 0.0), 3600.0)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Invalid(f"the answer is not JSON: {error}") from error


def _read(items: Sequence[Any], taken: int, mark: Any) -> list[Item]:
    return [Row(item, mark(index)) if isinstance(item, dict)
            else Bad(msgspec.json.encode(item)[:MAX_RAW_BYTES], "is no JSON object", mark(index))
            for index, item in enumerate(items) if index >= taken]


def _reach(value: Any, path: str) -> Any:
    """What stands at a dotted path; a number is a place in a list. None where nothing does."""
    for step in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _next_links(headers: Sequence[str]) -> Iterator[str]:
    """Targets of links whose relation is `next` (RFC 8288)."""
    for header in headers:
        if len(header) > MAX_LINK_CHARACTERS:
            raise Invalid(f"a Link header is longer than {MAX_LINK_CHARACTERS} characters", field="paging",
                          remedy="page by another kind, or let the API name fewer links")
        for target, parameters in _LINK.findall(header):
            for quoted, bare in _REL.findall(parameters):
                if "next" in (quoted or bare).lower().split():
                    yield target
                    break


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_DIGEST_BYTES]
