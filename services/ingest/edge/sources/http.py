"""JSON APIs over httpx: one page a call, with the token, within time and size; statuses as outcomes."""

import asyncio

import httpx

from lepton.clock import Clock
from lepton.contracts.source_blocks import HttpSource
from lepton.errors import Busy, Invalid, Refused, Unavailable
from services.ingest.flow.pulling.origin import Cursor, HttpPaging, Pulled, retry_after_s

BUSY_S = 5.0
_ASKING = {"accept": "application/json", "user-agent": "lepton-ingest"}


class HttpOrigin:
    """A `services.ingest.flow.pulling.origin.Origin`. The token goes to the host of the spec's URL and nowhere else."""

    unit = "items"

    def __init__(self, source: HttpSource, token: str | None, max_bytes: int, clock: Clock) -> None:
        self._source = source
        self._token = token
        self._max_bytes = max_bytes
        self._clock = clock
        self._paging = HttpPaging(source)
        self._client: httpx.AsyncClient | None = None

    async def open(self, cursor: Cursor) -> None:
        headers = dict(_ASKING)
        if self._token is not None:
            bearer = self._source.header.lower() == "authorization"
            headers[self._source.header] = f"Bearer {self._token}" if bearer else self._token
        # Redirects are not followed: they could carry the token to another host.
        self._client = httpx.AsyncClient(headers=headers, timeout=self._source.timeout, follow_redirects=False,
                                         trust_env=False, limits=httpx.Limits(max_connections=1))

    async def read(self, cursor: Cursor) -> Pulled:
        body, links = await self._get(*self._paging.ask(cursor))
        page = self._paging.take(cursor, body, links)
        # One that gives page after page without items is asked on later, not at once.
        more = page.more and bool(page.items)
        return Pulled(page.items, page.cursor, self._paging.shown(page.cursor), more=more, lag=None if more else 0)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _get(self, url: str, parameters: dict[str, str]) -> tuple[bytes, list[str]]:
        client = self._client
        if client is None:
            raise Unavailable("the API is not connected")
        where = httpx.URL(url).copy_with(query=None)
        asked = httpx.URL(url).copy_merge_params(parameters)
        try:
            async with asyncio.timeout(self._source.timeout), client.stream("GET", asked) as answer:
                self._check(answer, str(where))
                return await self._body(answer, str(where)), answer.headers.get_list("link")
        except (httpx.TimeoutException, TimeoutError) as error:
            raise Unavailable(f"no answer within {self._source.timeout:g} s", place=str(where)) from error
        except httpx.InvalidURL as error:
            raise Invalid("the URL cannot be used", field="url") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"no answer ({type(error).__name__})", place=str(where)) from error

    def _check(self, answer: httpx.Response, where: str) -> None:
        status = answer.status_code
        if status == 200:
            return
        said = f"the API answers {status} {answer.reason_phrase}".rstrip()
        if status in (429, 503):
            wait_s = retry_after_s(answer.headers.get("retry-after"), self._clock.now(), BUSY_S)
            raise Busy(said, retry_after_s=wait_s, place=where)
        if status >= 500 or status == 408:
            raise Unavailable(said, place=where)
        if status in (401, 403):
            raise Refused(said, place=where, field=self._source.token_from or "token_from",
                          remedy="check the token and what it may read")
        if 300 <= status < 400:
            raise Refused(f"{said}, and redirects are not followed", place=where, field="url",
                          remedy="write the URL it leads to")
        raise Refused(said, place=where, field="url")

    async def _body(self, answer: httpx.Response, where: str) -> bytes:
        """Decoded as its content-encoding says; what it becomes is counted, so a bomb is dropped early."""
        parts = []
        size = 0
        async for part in answer.aiter_bytes(65_536):
            size += len(part)
            if size > self._max_bytes:
                raise Invalid(f"the answer is larger than {self._max_bytes} bytes", place=where,
                              remedy="ask for smaller pages, or raise LEPTON_INGEST_HTTP_MAX_BYTES")
            parts.append(part)
        return b"".join(parts)
