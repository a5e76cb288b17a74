"""Which changes of a field rows, models and producers of before can live with, and why the others not."""

from collections.abc import Iterator, Mapping

from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.contracts.reading.text import normaliser


def field_changes(old: Mapping[str, FieldSpec], new: Mapping[str, FieldSpec]) -> Iterator[str]:
    """Why stored rows would not be read, or be read as something else, or producers be refused that were not.

    Free are: new optional fields anywhere, `required` let go, categories and accepted units added, a unit named for
    the first time, higher `max_length` and `max_bytes`; and, since they judge coming values and leave the meaning of
    stored ones alone, `range`, `out_of_range` and `input`.
    """
    for name, spec in new.items():
        if spec.required and name not in old:
            yield f"field {name} is new and required: stored rows have none"
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            yield f"field {name} is gone"
        elif before.type != after.type:
            yield f"field {name} changes from {before.type} to {after.type}"
        else:
            yield from _changes(name, before, after)
    kept = [name for name in new if name in old]
    if kept != [name for name in old if name in new]:
        yield "the order of fields changes"


def _changes(name: str, before: FieldSpec, after: FieldSpec) -> Iterator[str]:
    if after.required and not before.required:
        yield f"field {name} becomes required: stored rows may lack it"
    if gone := _gone(before.categories, after.categories or before.categories):
        yield f"field {name} loses categories {gone}"
    if before.categories is None and after.categories is not None:
        yield f"field {name} gets categories: stored rows may hold others"
    if before.dims != after.dims:
        yield f"field {name} changes from {before.dims} to {after.dims} dimensions"
    if before.image is not None and before.image != after.image:
        yield f"the image of field {name} changes: producers send it in the size it had"
    if before.unit is not None and before.unit != after.unit:
        yield f"the unit of field {name} changes from {before.unit} to {after.unit or 'none'}: stored values are in " \
              f"{before.unit}"
    if gone := _gone(before.accept_units, (*(after.accept_units or ()), after.unit or "")):
        yield f"field {name} no longer accepts {gone}: producers send it"
    for key, was, now in (("max_length", before.length_limit, after.length_limit),
                          ("max_bytes", before.bytes_limit, after.bytes_limit)):
        if now < was:
            yield f"{key} of field {name} falls from {was} to {now}: stored values may be larger"
    if not _same_spelling(before, after):
        yield f"normalise of field {name} changes: one text would be stored under two spellings"


def _same_spelling(before: FieldSpec, after: FieldSpec) -> bool:
    """Whether a text that comes again is stored as it was."""
    if set(before.normalise or ()) == set(after.normalise or ()):
        return True
    # Of a closed list every stored value is known; what is its own normal form stays as it is.
    if before.categories is None:
        return False
    normal = normaliser(after.normalise or ())
    return all(normal(category) == category for category in before.categories)


def _gone(before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> str:
    return ", ".join(sorted(set(before or ()) - set(after or ())))
