"""What is done to a value that can be set right: brought to the field's unit, into its range, to its normal form."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.contracts.reading.text import normaliser
from lepton.contracts.reading.units import conversions
from services.ingest.core.reading.column import Read, truth

VALUE, UNIT = "value", "unit"
# A value with its unit, as a column has it.
MEASURE = pa.struct([(VALUE, pa.float64()), (UNIT, pa.string())])


def conversion_of(spec: FieldSpec) -> Callable[[pa.Array], Read]:
    """A column of structs like MEASURE to one of numbers in the field's unit; a unit left out is the field's own.

    Factors are worked out here, once. Raises UnfitUnit for units that cannot be converted.
    """
    own = spec.unit or ""
    known = conversions(own, spec.accept_units or ())
    told = ", ".join((own, *known))

    def convert(column: pa.Array) -> Read:
        values = pc.cast(pc.struct_field(column, VALUE), pa.float64(), safe=False)
        units = pc.cast(pc.struct_field(column, UNIT), pa.string()).dictionary_encode()
        read = Read(values)
        numbers = np.array(values.to_numpy(zero_copy_only=False), np.float64)
        present = truth(pc.is_valid(values))
        places = np.asarray(pc.fill_null(units.indices, -1))
        converted = np.zeros(len(column), np.bool_)
        names = units.dictionary.to_pylist()
        for place, name in enumerate(names):
            rows = present & (places == place)
            if name == own or not rows.any():
                continue
            if name not in known:
                read.refuse(rows, "unknown_unit", f"unit {name[:40]!r} is not accepted; send {told}")
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                numbers[rows] = known[name](numbers[rows])
            converted |= rows
        if converted.any():
            before = [f"{value!r} {names[place]}" for value, place in zip(
                values.filter(pa.array(converted)).to_pylist(), places[converted].tolist(), strict=True)]
            read.change(converted, pa.array(numbers, mask=~present), "unit", before)
            lost = converted & ~np.isfinite(numbers) & truth(pc.is_finite(values))
            read.refuse(lost, "out_of_range", f"is too large in {own}")
        return read

    return convert


def into_range(spec: FieldSpec, read: Read, low: float | None, high: float | None) -> None:
    """Clip or empty what lies outside; whatever is no number at all is left alone."""
    outside = np.zeros(len(read.values), np.bool_)
    kind = read.values.type
    bounds = {beyond: pa.scalar(bound, kind)
              for bound, beyond in ((low, pc.less), (high, pc.greater)) if bound is not None}
    for beyond, bound in bounds.items():
        outside |= truth(beyond(read.values, bound))
    if pa.types.is_floating(kind):
        outside &= truth(pc.is_finite(read.values))
    if not outside.any():
        return
    before = list(map(repr, read.values.filter(pa.array(outside)).to_pylist()))
    values = read.values
    if spec.out_of_range == "clip":
        for beyond, bound in bounds.items():
            values = pc.if_else(pc.and_(beyond(values, bound), pa.array(outside)), bound, values)
    else:
        values = pc.if_else(pa.array(outside), pa.scalar(None, kind), values)
    read.change(outside, values, "range", before)


def normal_form_of(spec: FieldSpec) -> Callable[[pa.Array], Read]:
    """A column of texts in the form the field asks for; each different text is looked at once."""
    normal = normaliser(spec.normalise or ())

    def normalise(column: pa.Array) -> Read:
        column = column if pa.types.is_string(column.type) else pc.cast(column, pa.string())
        coded = column.dictionary_encode()
        texts = coded.dictionary.to_pylist()
        forms = list(map(normal, texts))
        other = np.array([form != text for form, text in zip(forms, texts, strict=True)], np.bool_)
        read = Read(column)
        if other.any():
            places = np.asarray(pc.fill_null(coded.indices, -1))
            changed = (places >= 0) & other[places]
            before = [texts[place] for place in places[changed].tolist()]
            read.change(changed, pa.array(forms, pa.string()).take(coded.indices), "normalise", before)
        return read

    return normalise
