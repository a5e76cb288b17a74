"""Which Pipeline fits a file nobody described: types, id, entity, time and label, each with the reason beside it."""

import json
import re
from dataclasses import dataclass
from typing import Final

from lepton.contracts.files.naming import plain_name
from lepton.contracts.pipeline import Pipeline, parse
from lepton.errors import Invalid
from lepton_ai._files.profile import MAX_CATEGORIES, Column, Profile

IDS: Final[tuple[str, ...]] = (
    "event_id", "id", "uuid", "guid", "row_id", "transaction_id", "trans_num", "message_id")
ENTITIES: Final[tuple[str, ...]] = (
    "entity_id", "entity", "customer_id", "customer", "user_id", "user", "client", "account", "account_id",
    "device_id", "device", "sensor_id", "sensor", "card", "card_number", "session_id", "merchant", "host", "machine",
    "vehicle", "patient_id", "site", "shop", "station")
TIMES: Final[tuple[str, ...]] = (
    "occurred_at", "event_time", "timestamp", "time", "ts", "datetime", "date_time", "date", "created_at", "at", "when")
LABELS: Final[tuple[str, ...]] = (
    "label", "target", "y", "class", "outcome", "is_fraud", "fraud", "churn", "churned", "survived")
SCALARS: Final = frozenset({"float", "int", "bool", "category", "text"})
_EPOCHS: Final = ((9e8, 4e9), (9e11, 4e12))
_NAME: Final = re.compile(r"[^a-z0-9]+")
MAX_CLASSES: Final = 100
MAX_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Guess:
    """A column in a role, and why."""

    column: str
    because: str


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the proposal; `options` as they stand in YAML."""

    name: str
    type: str
    options: tuple[str, ...]
    comment: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A Pipeline as commented YAML; `notes` say what a person should look at."""

    text: str
    pipeline: Pipeline
    notes: tuple[str, ...]


def propose(profile: Profile, source: str, name: str | None = None, label: str | None = None) -> Proposal:
    """A Pipeline that takes the file's rows. Raises Invalid when no column can be a field, or `label` is none."""
    columns = {column.name: column for column in profile.columns}
    event_id = _id(profile)
    time = _time([column for column in profile.columns if event_id is None or column.name != event_id.column])
    taken = {guess.column for guess in (event_id, time) if guess is not None}
    chosen = _label([column for column in profile.columns if column.name not in taken], label)
    entity = _entity([column for column in profile.columns if column.name not in taken and (
        chosen is None or column.name != chosen.column)])
    taken |= {guess.column for guess in (entity, chosen) if guess is not None}
    notes = [f"{profile.unreadable} of {profile.rows} rows cannot be read and were left out"] * bool(profile.unreadable)
    fields, left_out = _fields([column for column in profile.columns if column.name not in taken], chosen is not None)
    notes += left_out
    if not fields:
        raise Invalid("no column is left to be a field", field="events.fields", place=source)
    lines = _head(profile, source, name or _slug(source))
    lines += _events(event_id, entity, time, fields)
    if chosen is not None:
        lines += _learning(columns[chosen.column], chosen)
    text = "\n".join(lines) + "\n"
    return Proposal(text, parse(text), tuple(notes))


def _head(profile: Profile, source: str, name: str) -> list[str]:
    source = " ".join(source.split())
    rows = f"the first {profile.rows:,} rows" if profile.more else f"all {profile.rows:,} rows"
    return [f"# Proposed by `lepton infer` from {rows} of {source}: ranges and values are what was seen there.",
            "# Read it, change it, then `lepton apply -f` it.",
            "apiVersion: lepton/v1", "kind: Pipeline", f"metadata: {{name: {name}}}"]


def _events(event_id: Guess | None, entity: Guess | None, time: Guess | None, fields: list[Field]) -> list[str]:
    lines = ["events:"]
    if event_id is not None:
        lines.append(f"  id: {_quoted(event_id.column)}  # {event_id.because}")
    else:
        lines.append("  id: event_id  # no column names each row once: uploads make ids from the file and the row")
    if entity is not None:
        lines.append(f"  entity: {_quoted(entity.column)}  # {entity.because}; events of one are kept in order")
    else:
        lines.append("  # entity: COLUMN  # what events belong to: a customer, a device; no column looks like one")
    if time is not None:
        lines.append(f"  time: {_quoted(time.column)}  # {time.because}")
    else:
        lines.append("  # time: COLUMN  # no column looks like the time of the event: its arrival counts")
    width = max(len(_field(one)) for one in fields)
    return [*lines, "  fields:", *(f"    {_field(one).ljust(width)}  # {one.comment}" for one in fields)]


def _field(one: Field) -> str:
    return f"{_quoted(one.name)}: {{{', '.join((f'type: {one.type}', *one.options))}}}"


def _learning(column: Column, guess: Guess) -> list[str]:
    kind, comment = _type(column)
    classes = kind in ("bool", "category") or (kind == "int" and len(column.values) == 2)
    as_classes = ", task: classification" if classes and kind == "int" else ""
    family, metric = ("logistic_regression", "accuracy") if classes else ("linear_regression", "r2")
    return [f"  label: {{field: {_quoted(plain_name(column.name))}, type: {kind}, arrives: with_event{as_classes}}}"
            f"  # {guess.because}; {comment}",
            "clean:", "  missing: {default: mean}  # mode for what is no number",
            "model:", f"  family: {family}  # or mlp", f"gate: {{metric: {metric}}}"]


def _id(profile: Profile) -> Guess | None:
    def unique(column: Column) -> bool:
        return (_may_name(column) and column.present == column.seen == len(column.values)
                and max(map(len, column.values)) <= 256)

    found = [column for column in profile.columns if unique(column)]
    named = {plain_name(column.name): column for column in found}
    for name in IDS:
        if name in named:
            return Guess(named[name].name, "never missing, never twice")
    ending = [column for column in found if plain_name(column.name).endswith(("_id", "_uuid", "_number", "_no"))]
    return Guess(ending[0].name, "never missing, never twice") if ending else None


def _entity(columns: list[Column]) -> Guess | None:
    def groups(column: Column) -> bool:
        return (_may_name(column) and column.present == column.seen
                and 1 < len(column.values) <= 0.9 * column.seen)

    found = {plain_name(column.name): column for column in columns if groups(column)}
    names = [name for name in ENTITIES if name in found] or [name for name in found if name.endswith("_id")]
    if not names:
        return None
    column = found[names[0]]
    return Guess(column.name, f"{len(column.values):,} different values in {column.seen:,} rows")


def _may_name(column: Column) -> bool:
    """Whether its values can name something, and its own name can be a member's."""
    return column.only("int", "text") and _is_member(column.name)


def _is_member(name: str) -> bool:
    return 0 < len(name) <= 63 and name == name.strip() and not name.startswith("_")


def _time(columns: list[Column]) -> Guess | None:
    columns = [column for column in columns if _is_member(column.name)]
    moments = [column for column in columns if column.only("time")]
    named = {plain_name(column.name): column for column in columns if column.only("time") or _is_epoch(column)}
    for name in TIMES:
        if name in named:
            how = "its values are times" if named[name] in moments else "its numbers are times since 1970"
            return Guess(named[name].name, f"the column's name, and {how}")
    return Guess(moments[0].name, "the only column of times" if len(moments) == 1 else "the first column of times") \
        if moments else None


def _is_epoch(column: Column) -> bool:
    return column.only("int", "float") and any(low <= column.low and column.high <= high for low, high in _EPOCHS)


def _label(columns: list[Column], asked: str | None) -> Guess | None:
    if asked is not None:
        for column in columns:
            if asked in (column.name, plain_name(column.name)):
                if _type(column)[0] not in ("float", "int", "bool", "category"):
                    raise Invalid(f"column {asked} is {_type(column)[0]}, which cannot be learnt", field="label")
                return Guess(column.name, "asked for")
        raise Invalid(f"no column {asked!r} to be the label", field="label",
                      remedy=f"choose one of {', '.join(column.name for column in columns)}")
    named = {plain_name(column.name): column for column in columns if column.present}
    likely = [name for name in LABELS if name in named] or [
        name for name in named if name.startswith(("is_", "has_")) or name.endswith(("_label", "_class", "_target"))]
    for name in likely:
        kind, _ = _type(named[name])
        # Something that never varies, or is different in each row, is nothing to learn.
        if kind in ("float", "int", "bool", "category") and len(named[name].values) >= 2 and (
                kind in ("float", "int") or len(named[name].values) <= MAX_CLASSES):
            return Guess(named[name].name, "guessed by its name; lepton infer --label COLUMN names another")
    return None


def _fields(columns: list[Column], learns: bool) -> tuple[list[Field], list[str]]:
    found: list[Field] = []
    notes: list[str] = []
    for column in columns:
        kind, comment = _type(column)
        name = plain_name(column.name)
        if not kind:
            notes.append(f"column {column.name} was left out: {comment}")
            continue
        if any(one.name == name for one in found):
            notes.append(f"column {column.name} was left out: another column is called {name} too")
            continue
        longest = max(column.lengths, default=0)
        options = {"vector": [f"dims: {longest}"], "sequence": [f"max_length: {longest * 2}"]}.get(kind, [])
        options += ["required: true"] * (column.present == column.seen)
        options += ["input: false"] * (learns and kind not in SCALARS)
        spelt = "" if name == column.name else f"column {json.dumps(column.name)}; "
        found.append(Field(name, kind, tuple(options), spelt + comment + _missing(column)))
    return found, notes


def _missing(column: Column) -> str:
    gone = column.seen - column.present
    return f"; missing in {gone:,} of {column.seen:,}" if gone else ""


def _type(column: Column) -> tuple[str, str]:
    """The type, empty for a column that can be no field, and what was seen."""
    different = len(column.values)
    if not column.present:
        return "", "it is empty"
    if column.only("bool"):
        return "bool", f"true in {column.values['True']:,} of {column.present:,}"
    if column.mostly("int", "float"):
        others = column.present - column.kinds["int"] - column.kinds["float"]
        told = "1 value is no number and will" if others == 1 else f"{others:,} values are no numbers and will"
        wrong = f"; {told} be refused" if others else ""
        kind = "float" if column.kinds["float"] else "int"
        return kind, f"{_short(column.low)} to {_short(column.high)}{wrong}"
    if column.only("time"):
        return "timestamp", f"{min(column.values)} to {max(column.values)}"
    if column.only("numbers"):
        if len(column.lengths) == 1:
            return "vector", f"always {max(column.lengths)} numbers"
        return "sequence", f"{min(column.lengths)} to {max(column.lengths)} numbers"
    if column.kinds["other"]:
        return "", "its values are neither numbers, texts, times nor lists of numbers"
    if different <= MAX_CATEGORIES and different * 2 <= column.present:
        return "category", _categories(column)
    return "text", f"{different:,} different texts"


def _categories(column: Column) -> str:
    shown = [json.dumps(value, ensure_ascii=False)[:40] for value, _ in column.values.most_common(MAX_SHOWN)]
    more = f" and {len(column.values) - MAX_SHOWN} more" if len(column.values) > MAX_SHOWN else ""
    return f"{', '.join(shown)}{more}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and name.lower() not in (
        "y", "n", "yes", "no", "on", "off", "true", "false", "null") else json.dumps(name, ensure_ascii=False)


def _slug(source: str) -> str:
    stem = source.rpartition("/")[2].rpartition(".")[0] or source
    return (_NAME.sub("-", stem.lower()).strip("-") or "rows")[:40].strip("-")
