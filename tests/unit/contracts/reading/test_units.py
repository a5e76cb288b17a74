"""Units convert exactly where arithmetic allows it, and what cannot be converted is refused quickly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.reading.text import normaliser
from lepton.contracts.reading.units import UnfitUnit, conversion, conversions


@pytest.mark.parametrize(("value", "source", "target", "wanted"), [
    (212, "degF", "degC", 100.0), (-40, "degF", "degC", -40.0), (100, "degC", "degF", 212.0), (0, "degC", "K", 273.15),
    (3, "km", "m", 3000.0), (1, "m", "km", 0.001), (36, "km/h", "m/s", 10.0), (1, "in", "cm", 2.54),
    (3, "%", "dimensionless", 0.03), (180, "deg", "rad", 3.141592653589793), (2, "kg * m^2 / s^2", "J", 2.0),
    (5, "1/s", "Hz", 5.0), (7, "µm", "m", 7e-6), (1, "lb", "kg", 0.45359237),
])
def test_a_value_comes_out_as_it_is_known(value: float, source: str, target: str, wanted: float) -> None:
    assert conversion(source, target)(value) == wanted


@pytest.mark.parametrize(("source", "target", "blamed"), [
    ("kg", "m", "kg"), ("dB", "dimensionless", "dB"), ("USD", "m", "USD"), ("m", "EUR", "EUR"), ("", "m", ""),
    ("9**9**9**9", "m", "9**9**9**9"), ("m**999999999", "m", "m**999999999"), ("2*m", "m", "2*m"),
    ("__import__('os')", "m", "__import__('os')"), ("m" * 100, "m", "m" * 100), ("lambda", "m", "lambda"),
])
def test_what_is_no_unit_of_that_kind_is_refused_by_name(source: str, target: str, blamed: str) -> None:
    with pytest.raises(UnfitUnit) as caught:
        conversion(source, target)
    assert caught.value.field == blamed
    assert caught.value.remedy


def test_every_accepted_unit_has_its_own_way() -> None:
    ways = conversions("m", ("km", "ft"))
    assert {name: way(1) for name, way in ways.items()} == {"km": 1000.0, "ft": 0.3048}


@given(st.floats(-1e12, 1e12), st.sampled_from([("degF", "degC"), ("K", "degF"), ("mile", "m"), ("psi", "bar")]))
def test_there_and_back_is_where_it_began(value: float, pair: tuple[str, str]) -> None:
    there, back = conversion(*pair), conversion(pair[1], pair[0])
    assert back(there(value)) == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(st.text(max_size=12))
def test_any_text_is_a_unit_or_refused(text: str) -> None:
    try:
        assert conversion(text, text)(2.0) == pytest.approx(2.0)
    except UnfitUnit as error:
        assert error.field == text


@given(st.text(max_size=20), st.sets(st.sampled_from(["trim", "lower", "nfc", "collapse"])))
def test_a_normal_form_is_its_own_normal_form(text: str, steps: set[str]) -> None:
    normal = normaliser(steps)
    assert normal(normal(text)) == normal(text)
