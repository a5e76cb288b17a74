"""Where a pipeline pulls events from by itself: one block a kind of connector."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lepton.contracts.pipeline_blocks import Block, Duration, Member

SourceName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
SecretName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
"""Name of an environment variable of ingest; a Pipeline never holds a secret itself."""


class _Source(Block):
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
    timeout: Duration = 30.0


class LogSource(_Source):
    """Lines of files, followed across rotation: JSON, or text taken apart by a regular expression with named groups."""

    kind: Literal["log"] = "log"
    path: str
    """File or glob, inside the folders `LEPTON_INGEST_LOG_ROOTS` allows."""
    pattern: str | None = None


class KafkaSource(_Source):
    """Another Kafka topic, on the platform's broker or on one of its own."""

    kind: Literal["kafka"] = "kafka"
    topic: str
    bootstrap: str | None = None
    """The platform's broker when left out."""


SourceSpec = Annotated[SqlSource | HttpSource | LogSource | KafkaSource, Field(discriminator="kind")]


class Sources(Block):
    pull: Annotated[tuple[SourceSpec, ...], Field(strict=False, max_length=16)] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.pull]
        if len(set(names)) < len(names):
            raise ValueError("must have a name of its own for each source")
        return self
