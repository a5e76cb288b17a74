"""Where a pipeline pulls events from by itself: one block a kind of connector, and what must hold of them."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from lepton.contracts.pipeline_blocks import Block, Duration, Events, Member
from lepton.contracts.reading.lines import PathKey

Finding = tuple[PathKey, str, str]
SourceName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
SECRETS = "LEPTON_SOURCE_"
"""How the variables begin that a Pipeline may name: whoever writes one cannot reach the other secrets of ingest."""
_SELECT = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_BOOTSTRAP = re.compile(r"[^\s,:]+:\d+(,[^\s,:]+:\d+)*")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_OURS = "lepton-"
_SECRET = re.compile(rf"{SECRETS}[A-Z0-9_]{{1,50}}")


def _secret_name(name: str) -> str:
    if not _SECRET.fullmatch(name):
        raise ValueError(f"must name an environment variable that begins with {SECRETS} (capitals, digits and _)")
    return name


SecretName = Annotated[str, AfterValidator(_secret_name)]
"""Name of an environment variable of ingest; a Pipeline never holds a secret itself."""


class _Source(Block):
    """What all kinds share. `kind` and `origin` say whether a cursor of one version goes on in the next."""

    name: SourceName
    every: Duration = 5.0
    """How often is looked for more, once everything was taken."""
    rename: dict[str, Member] = Field(default_factory=dict)
    """Column or member of the source → member of the event, where they differ."""


class SqlSource(_Source):
    """Rows of a table or query, in the order of a cursor column; SQLAlchemy speaks to the database."""

    kind: Literal["sql"] = "sql"
    url_from: SecretName
    """Environment variable with the SQLAlchemy URL."""
    table: str | None = None
    query: str | None = None
    """Instead of `table`: a SELECT without ORDER BY; it is wrapped."""
    cursor: str
    """Column that grows with each new row; with `tie` where its values repeat."""
    tie: str | None = None
    batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    timeout: Duration = 60.0

    @property
    def origin(self) -> tuple[str, ...]:
        """What the stored cursor is a place in; another one starts elsewhere."""
        return (self.kind, self.url_from, self.table or "", self.cursor, self.tie or "")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("must have either table or query")
        return self


class HttpSource(_Source):
    """Pages of a JSON API, followed by its cursor, page number or next link."""

    kind: Literal["http"] = "http"
    url: str
    items: str = ""
    """Dotted path to the list in the answer; empty: the answer is the list."""
    paging: Literal["none", "page", "offset", "cursor", "link"] = "none"
    parameter: str = "page"
    """Query parameter that carries the page, offset or cursor."""
    next: str | None = None
    """Dotted path to the next cursor or link in the answer."""
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    size_parameter: str | None = None
    token_from: SecretName | None = None
    """Environment variable with a bearer token."""
    header: str = "Authorization"
    """Carries `Bearer TOKEN`; any other header carries the token alone."""
    timeout: Duration = 30.0
    first_page: Annotated[int, Field(ge=0, le=1)] = 1

    @property
    def origin(self) -> tuple[str, ...]:
        return (self.kind, self.url, self.paging)


class LogSource(_Source):
    """Lines of files, followed across rotation: JSON, or text taken apart by a regular expression with named groups."""

    kind: Literal["log"] = "log"
    path: str
    """File or glob, inside the folders `LEPTON_INGEST_LOG_ROOTS` allows."""
    pattern: str | None = None
    """RE2 expression with a named group a member; a line without a match is a dead letter. Left out: JSON lines."""
    time_format: str | None = None
    """How the event time is written, as strptime has it, where it is not RFC 3339; without a zone it is UTC."""

    @property
    def origin(self) -> tuple[str, ...]:
        # Places are kept file by file, so another glob goes on with the files that both match.
        return (self.kind,)


class KafkaSource(_Source):
    """Another Kafka topic, on the platform's broker or on one of its own."""

    kind: Literal["kafka"] = "kafka"
    topic: str
    bootstrap: str | None = None
    """The platform's broker when left out."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str | None = None
    password_from: SecretName | None = None
    """Environment variable with the password of `username`."""

    @property
    def origin(self) -> tuple[str, ...]:
        return (self.kind, self.bootstrap or "", self.topic)


SourceSpec = Annotated[SqlSource | HttpSource | LogSource | KafkaSource, Field(discriminator="kind")]


class Sources(Block):
    pull: Annotated[tuple[SourceSpec, ...], Field(strict=False, max_length=16)] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.pull]
        if len(set(names)) < len(names):
            raise ValueError("must have a name of its own for each source")
        return self


def check_sources(events: Events | None, sources: Sources | None) -> Iterator[Finding]:
    """Everything wrong of the blocks that could be read (the others are None)."""
    for number, source in enumerate(sources.pull if sources is not None else ()):
        path: PathKey = ("sources", "pull", number)
        if events is not None:
            yield from _check_rename(path, events, source.rename)
        if isinstance(source, SqlSource):
            yield from _check_sql(path, source)
        elif isinstance(source, HttpSource):
            yield from _check_http(path, source)
        elif isinstance(source, LogSource):
            yield from _check_log(path, source)
        else:
            yield from _check_kafka(path, source)


def moved(old: Sources, new: Sources) -> list[str]:
    """Why cursors of `old` mean nothing under `new`: a name that now reads from another place."""
    before = {source.name: source for source in old.pull}
    return [f"source {source.name} reads from another place, where its cursor means nothing (another name starts anew)"
            for source in new.pull if source.name in before and before[source.name].origin != source.origin]


def _check_rename(path: PathKey, events: Events, rename: Mapping[str, str]) -> Iterator[Finding]:
    members = {events.id, events.entity_member, events.time, *events.fields}
    members |= {events.label.field} if events.label is not None else set()
    for given, member in rename.items():
        if member not in members:
            near = difflib.get_close_matches(member, sorted(members), n=1)
            yield (*path, "rename", given), f"`{member}` is no member of an event", (
                f"did you mean `{near[0]}`?" if near else "name a field, or the id, entity or time member")
    if len(set(rename.values())) < len(rename):
        yield (*path, "rename"), "two columns become one member", "keep one of them"


def _check_sql(path: PathKey, source: SqlSource) -> Iterator[Finding]:
    if source.tie == source.cursor:
        yield (*path, "tie"), "the same column as cursor", "name a column that differs where the cursor repeats"
    if source.query is not None and (not _SELECT.match(source.query) or ";" in source.query):
        yield (*path, "query"), "is not one SELECT", "write SELECT … without ORDER BY and without `;`"


def _check_http(path: PathKey, source: HttpSource) -> Iterator[Finding]:
    try:
        parts = urlsplit(source.url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, sound = urlsplit(""), False
    if not sound:
        yield (*path, "url"), "is no http or https URL", "write https://host/path"
    if parts.username is not None or parts.password is not None:
        yield (*path, "url"), "holds a user or password", "put a token into a variable and name it in token_from"
    if source.paging == "cursor" and source.next is None:
        yield (*path, "next"), "paging by cursor needs to know where the next one stands", "add next: its dotted path"
    if source.next is not None and source.paging not in ("cursor", "link"):
        yield (*path, "next"), f"paging {source.paging} follows no next", "remove it, or page by cursor or link"
    if not _HEADER.fullmatch(source.header):
        yield (*path, "header"), "is no name of a header", "letters, digits and dashes"


def _check_log(path: PathKey, source: LogSource) -> Iterator[Finding]:
    if not source.path.startswith("/") or ".." in source.path.split("/"):
        yield (*path, "path"), "is not an absolute path without `..`", "begin with / and name each folder"
    if source.pattern is None and source.time_format is not None:
        yield (*path, "time_format"), "JSON lines say their time in RFC 3339", "remove it, or add pattern"


def _check_kafka(path: PathKey, source: KafkaSource) -> Iterator[Finding]:
    if not _TOPIC.fullmatch(source.topic) or source.topic in (".", ".."):
        yield (*path, "topic"), "is no name of a topic", "letters, digits, dots, dashes and underscores"
    elif source.topic.startswith(_OURS):
        yield (*path, "topic"), f"topics that begin with {_OURS} are the platform's own", (
            "its events would come round and round; name the topic that feeds them")
    if source.bootstrap is not None and not _BOOTSTRAP.fullmatch(source.bootstrap):
        yield (*path, "bootstrap"), "is no list of host:port", "separate several by commas"
    own = source.bootstrap is not None
    if not own and (source.security != "PLAINTEXT" or source.username or source.password_from):
        yield (*path, "bootstrap"), "security is set for a broker that is not named", (
            "name the broker; the platform's own is reached as ingest reaches it")
    complete = source.username is not None and source.password_from is not None
    if own and source.security.startswith("SASL") and not complete:
        yield (*path, "security"), f"{source.security} needs a user and password", "add username and password_from"
    if own and not source.security.startswith("SASL") and (source.username or source.password_from):
        yield (*path, "security"), f"{source.security} takes no user", "choose SASL_SSL, or remove the user"
