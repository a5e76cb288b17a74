"""Names of what is observed follow one form and are used once each."""

import re

from lepton.contracts import names

OWN = {name: value for name, value in vars(names).items() if name.isupper()}


def test_no_two_metrics_or_measurements_share_a_name() -> None:
    metrics = [value for value in OWN.values() if "_" in value and "." not in value]
    assert len(metrics) == len(set(metrics))


def test_metrics_carry_the_platforms_prefix_and_no_suffix_that_is_added_later() -> None:
    for value in OWN.values():
        if value.startswith("lepton_"):
            assert re.fullmatch(r"lepton_[a-z]+(_[a-z]+)*", value)
            assert not value.endswith("_total")


def test_span_attributes_are_dotted() -> None:
    assert all(re.fullmatch(r"lepton\.[a-z_]+", value) for value in OWN.values() if "." in value)
