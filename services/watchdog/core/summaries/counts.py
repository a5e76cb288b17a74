"""What is counted between two ticks: rows by source, values by field, how fields went together, labels, opinions."""

import msgspec


class SourceRows(msgspec.Struct, frozen=True):
    """Rows of one source in one interval; `outliers` and `missing` count among the accepted."""

    source: str
    accepted: int
    rejected: int
    outliers: int
    missing: int


class FieldRows(msgspec.Struct, frozen=True):
    """Values of one field in one interval. `histogram`: edges and counts of numbers; `top`: frequent names.

    `counted`: values that these were taken of; `mean` and `std` are 0 of a field that is no number. `present` and
    `missing` count rows, `outliers` are among the present, `invalid` are of rows that were turned away for it.
    `quarantined`: accepted rows go without it; for `incident_id`, empty where a person did it.
    """

    name: str
    missing: int = 0
    invalid: int = 0
    mean: float = 0.0
    std: float = 0.0
    histogram: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    top: tuple[tuple[str, int], ...] = ()
    counted: int = 0
    present: int = 0
    outliers: int = 0
    distinct: float = 0.0
    quarantined: bool = False
    incident_id: str = ""


class JointRows(msgspec.Struct, frozen=True):
    """How fields went together in one interval, over so many sampled rows.

    `correlations` of ranks: of the first field with each after it, then of the second, and so on.
    """

    fields: tuple[str, ...]
    rows: int
    correlations: tuple[float, ...]


class MemberRows(msgspec.Struct, frozen=True, array_like=True):
    """In how many events a member is not as declared; `kind` of its values (`number`), of one that is absent those that
    they may have (`number|text`)."""

    member: str
    count: int
    kind: str = ""


class SchemaRows(msgspec.Struct, frozen=True):
    """How members of one source's sampled events differ from what the Pipeline declares, in one interval."""

    source: str
    sampled: int
    undeclared: tuple[MemberRows, ...] = ()
    absent: tuple[MemberRows, ...] = ()
    mistyped: tuple[MemberRows, ...] = ()


class RowsSeen(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An input: a data-quality summary of a pipeline; `age_s` after its interval ended. `brief`: how many
    rows came, and nothing else of it."""

    pipeline: str
    sources: tuple[SourceRows, ...]
    age_s: float = 0.0
    fields: tuple[FieldRows, ...] = ()
    duplicates: int = 0
    late: int = 0
    joint: JointRows | None = None
    schemas: tuple[SchemaRows, ...] = ()
    brief: bool = False


def total(seen: RowsSeen) -> int:
    """Rows that came, those that were turned away among them."""
    return sum(one.accepted + one.rejected for one in seen.sources)


class Opined(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An input: opinions of one author (id of an API key) on answers of a version, since the tick before."""

    pipeline: str
    version: int
    author: str
    accepted: int
    rejected: int


class Labelled(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An input: so many labels came since the tick before; `with_event`: together with their events."""

    pipeline: str
    count: int
    with_event: bool = False
