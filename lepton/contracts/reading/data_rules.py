"""What must hold of typed fields, cleaning and windows of a Pipeline."""

import math
from collections.abc import Iterator

from lepton.contracts.pipeline_blocks import LISTS, NUMERIC, SCALARS, Clean, Events, Features, FieldSpec, Window
from lepton.contracts.reading.lines import PathKey
from lepton.contracts.reading.text import normaliser
from lepton.contracts.reading.units import UnfitUnit, conversion

Finding = tuple[PathKey, str, str]
_ONLY_FOR = {"dims": ("vector",), "max_length": ("sequence",), "image": ("vector",),
             "normalise": ("category", "text"), "accept_units": ("float",)}
# Those that `reading.images` unpacks, which few who check a Pipeline have to load.
_COLOURS = (1, 3, 4)


def check_data(events: Events | None, clean: Clean | None, features: Features | None) -> Iterator[Finding]:
    """Everything wrong between the parts that could be read (the others are None)."""
    if events is not None:
        for name, spec in events.fields.items():
            learns = events.label is not None and events.label.field != name
            path: PathKey = ("events", "fields", name)
            yield from _check_type(path, spec, learns)
            yield from _check_repairs(path, spec)
            yield from _check_role(path, events, name, spec)
        if clean is not None:
            yield from _check_cleaning(events, clean)
        if features is not None:
            yield from _check_features(events, features)


def _check_type(path: PathKey, spec: FieldSpec, learns: bool) -> Iterator[Finding]:
    """Keys that belong to other types, and what a type needs. `learns`: the pipeline has a label."""
    for key, types in _ONLY_FOR.items():
        if getattr(spec, key) and spec.type not in types:
            yield (*path, key), f"{_a(spec.type)} has no {key}", f"remove it; it is for {' and '.join(types)}"
    if spec.max_bytes and spec.type != "image" and not spec.image:
        yield (*path, "max_bytes"), f"{_a(spec.type)} has no max_bytes", "remove it; it is for images"
    if spec.image and spec.type == "vector":
        colours = (*spec.image, 1)[2]
        if colours not in _COLOURS:
            yield (*path, "image"), f"no image has {colours} colours", "write [height, width], or 3 or 4 colours"
        elif spec.dims is not None and math.prod(spec.image) != spec.dims:
            yield (*path, "image"), f"it has {math.prod(spec.image)} numbers, the vector {spec.dims}", (
                f"write dims: {math.prod(spec.image)}, or another size")
    if spec.type == "vector" and spec.dims is None:
        yield (*path, "dims"), "a vector needs its number of dimensions", "add dims"
    if spec.out_of_range is not None and spec.range is None:
        yield (*path, "out_of_range"), f"{spec.out_of_range} needs a range", "add range, or remove out_of_range"
    if spec.accept_units and spec.unit is None:
        yield (*path, "accept_units"), "there is no unit to convert to", "add unit"
    if learns and spec.input and spec.type not in SCALARS | LISTS:
        yield (*path, "input"), f"no model family takes {_a(spec.type)} yet", (
            "write `input: false`: it is checked and kept with the row"
            + ("; or make it a vector with `image: [height, width]`, which comes as PNG or JPEG too"
               if spec.type == "image" else ""))
    if learns and spec.input and spec.type == "sequence" and spec.max_length is None:
        yield (*path, "max_length"), "a model takes a sequence up to a length that is known", (
            "add max_length, or write `input: false`")
    if spec.required and spec.out_of_range == "null":
        yield (*path, "out_of_range"), "null would leave a required field empty", "choose reject or clip"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _check_repairs(path: PathKey, spec: FieldSpec) -> Iterator[Finding]:
    """What is done to a value must be possible, and must lead to an accepted one."""
    if spec.unit is not None and spec.type == "float":
        for number, accepted in enumerate(spec.accept_units or ()):
            try:
                conversion(accepted, spec.unit)
            except UnfitUnit as error:
                place: PathKey = ("unit",) if error.field == spec.unit else ("accept_units", number)
                yield (*path, *place), error.message, error.remedy
                if place == ("unit",):
                    break
    if spec.accept_units and (len(set(spec.accept_units)) < len(spec.accept_units) or spec.unit in spec.accept_units):
        yield (*path, "accept_units"), "a unit appears twice, or is the field's own", "name each other unit once"
    if spec.type == "int" and spec.range is not None:
        low, high = spec.range
        if low <= high and math.ceil(low) > math.floor(high):
            yield (*path, "range"), "no whole number lies in it", "widen it"
    if spec.normalise and spec.categories:
        normal = normaliser(spec.normalise)
        for number, category in enumerate(spec.categories):
            if normal(category) != category:
                yield (*path, "categories", number), f"`{category}` is never met once values are normalised", (
                    f"write `{normal(category)}`")


def _check_role(path: PathKey, events: Events, name: str, spec: FieldSpec) -> Iterator[Finding]:
    """Entity and label are taken as they came: partitions and outcomes have been made from them."""
    roles = {events.entity_member: "the entity", events.label.field if events.label else None: "the label"}
    if name not in roles:
        return
    for key in ("normalise", "accept_units", "out_of_range"):
        if getattr(spec, key) not in (None, "reject"):
            yield (*path, key), f"{roles[name]} is never changed", "remove it"


def _check_features(events: Events, features: Features) -> Iterator[Finding]:
    taken: set[str] = set(events.fields) | ({events.label.field} if events.label else set())
    for number, window in enumerate(features.windows):
        path: PathKey = ("features", "windows", number)
        yield from _check_window(path, window)
        for column in window.columns:
            if column in taken:
                yield (*path, "name"), f"the column `{column}` exists already", "choose another name"
            taken.add(column)
        spec = events.fields.get(window.of) if window.of is not None else None
        if window.of is not None and spec is None:
            yield (*path, "of"), f"`{window.of}` is not one of fields", "name a field"
        elif window.of is not None and events.label is not None and window.of == events.label.field:
            yield (*path, "of"), "a window over the label would tell the model what it is to predict", "name a field"
        if spec is None and set(window.aggregates) - {"count", "time_since"} and window.of is None:
            yield (*path, "of"), "these aggregates need a field", "name one in `of`"
        needing = set(window.aggregates) & {"sum", "mean", "std", "min", "max", "last"}
        if spec is not None and spec.type not in (*NUMERIC, "bool") and needing:
            yield (*path, "aggregates"), f"a {spec.type} has no {', '.join(sorted(needing))}", (
                "use count, distinct or time_since")
        if spec is not None and spec.type not in SCALARS:
            yield (*path, "of"), f"a {spec.type} cannot be aggregated", "name a number, bool, category or text"


def _check_window(path: PathKey, window: Window) -> Iterator[Finding]:
    if len(set(window.aggregates)) != len(window.aggregates):
        yield (*path, "aggregates"), "an aggregate appears twice", "keep one of them"
    if window.kind == "session":
        if window.gap is None:
            yield (*path, "gap"), "a session needs a gap", "add gap"
        if window.size is not None:
            yield (*path, "size"), "a session has no size", "remove it; gap ends a session"
    elif window.size is None:
        yield (*path, "size"), f"a {window.kind} window needs a size", "add size"
    elif window.gap is not None:
        yield (*path, "gap"), "only a session has a gap", "remove it"
    if window.kind == "hopping":
        if window.every is None:
            yield (*path, "every"), "a hopping window needs every", "add every"
        elif window.size is not None and (window.size % window.every or window.size / window.every > 1000):
            yield (*path, "every"), "size must be a whole multiple of every, at most 1000 of them", "change one of them"
    elif window.every is not None:
        yield (*path, "every"), "only a hopping window has every", "remove it"


def _check_cleaning(events: Events, clean: Clean) -> Iterator[Finding]:
    numeric = any(spec.type in NUMERIC for spec in events.fields.values())
    if clean.outliers.method == "half_space_trees":
        if not numeric:
            yield ("clean", "outliers", "method"), "there is no number to look at", "choose none"
        if clean.outliers.action in ("clip", "null"):
            yield ("clean", "outliers", "action"), "half-space trees judge rows, not values", "keep or quarantine them"
        if clean.outliers.k is not None and clean.outliers.k >= 1:
            yield ("clean", "outliers", "k"), "the score lies between 0 and 1", "choose less than 1"
