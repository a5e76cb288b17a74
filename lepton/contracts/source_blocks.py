"""Where a pipeline pulls events from by itself: one block a kind of connector."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lepton.contracts.pipeline_blocks import Block, Duration, Member

SourceName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
SECRETS = "LEPTON_SOURCE_"
"""How the variables begin that a Pipeline may name: whoever writes one cannot reach the other secrets of ingest."""
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
    """Regular expression with a named group a member; a line without a match is a dead letter. Left out: JSON lines."""
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
