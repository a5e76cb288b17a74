"""The cleaning report counts what is there and says what will be done, no more."""

import json
from typing import Any

import pytest

from lepton.contracts.pipeline import from_json
from lepton_ai._data import from_rows
from lepton_ai._infer import cleaned, derive
from lepton_ai._report import CleaningReport, FieldReport, from_statistics, identical_rows
from lepton_ai._report import from_rows as fields_of

VALUES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1000.0, None, None]
ROWS = from_rows([{"a": value, "flat": 3.0, "kind": "x" if index < 6 else "y", "ok": index % 3 == 0, "y": float(index)}
                  for index, value in enumerate(VALUES)])
DERIVED = derive("data", ROWS)
CLEANED = from_json(json.dumps(cleaned(DERIVED.spec))).to_data()


def by_name(fields: tuple[FieldReport, ...]) -> dict[str, FieldReport]:
    return {one.name: one for one in fields}


def with_clean(**clean: Any) -> dict[str, Any]:
    return {**CLEANED, "clean": {**CLEANED["clean"], **clean}}


def test_missing_values_and_outliers_are_counted() -> None:
    found = by_name(fields_of(ROWS, CLEANED))["a"]
    assert (found.missing, found.outliers) == (2, 1)
    assert "missing become the mean, about 16.75" in found.repair, "the mean, 128.5, is clipped like every value"
    assert "outliers are clipped to" in found.repair


def test_a_column_without_spread_has_no_outliers() -> None:
    found = by_name(fields_of(ROWS, CLEANED))["flat"]
    assert (found.outliers, found.repair) == (0, "missing become the mean, about 3")


def test_what_is_no_number_takes_the_most_frequent() -> None:
    fields = by_name(fields_of(ROWS, CLEANED))
    assert fields["kind"].repair == "missing become the most frequent, x"
    assert fields["ok"].repair == "missing become the most frequent, False"
    assert "y" not in fields


@pytest.mark.parametrize(("clean", "says"), [
    ({"missing": {"a": {"constant": 7}}}, "missing become 7"),
    ({"missing": {"default": "median"}}, "the median, about 4.5"),
    ({"missing": {"a": "drop"}}, "rows without it are rejected"),
    ({"outliers": {"method": "zscore", "action": "keep", "k": 2.0}}, "are flagged and kept"),
    ({"outliers": {"method": "mad", "action": "quarantine"}}, "are set aside"),
])
def test_the_pipelines_own_rules_are_told(clean: dict[str, Any], says: str) -> None:
    found = by_name(fields_of(ROWS, with_clean(**clean)))["a"]
    assert says in found.repair


def test_no_method_means_no_outliers() -> None:
    found = by_name(fields_of(ROWS, with_clean(outliers={"method": "none", "action": "keep"})))["a"]
    assert (found.outliers, "outlier" in found.repair) == (0, False)


def test_rows_that_repeat_are_counted() -> None:
    assert identical_rows(from_rows([{"a": 1, "b": None}, {"a": 1, "b": None}, {"a": 2, "b": 1.0}])) == 1


def test_statistics_of_a_version_stand_in_when_rows_are_elsewhere() -> None:
    statistics = [{"field": "a", "missing": 2, "mean": 128.5, "outlier_low": -5.0, "outlier_high": 15.0}]
    fields = by_name(from_statistics(statistics, CLEANED))
    assert (fields["a"].missing, fields["a"].outliers) == (2, None)
    assert fields["a"].repair == "missing become the mean, about 15; outliers are clipped to -5 to 15"
    assert fields["kind"].repair == "not known before a version is trained"


def report(**changes: Any) -> CleaningReport:
    told: dict[str, Any] = {
        "dataset": "data", "pipeline": "data-1", "label": "y (the last column)", "rows": 10, "accepted": 9,
        "rejected": 1, "identical": 0, "fields": fields_of(ROWS, CLEANED), "rejections": {"<not> a number": 1},
        "notes": ("a note",), "source": "10 rows"}
    return CleaningReport(**{**told, **changes})


def test_a_report_reads_as_text_and_as_a_page() -> None:
    text = str(report())
    for part in ("10 read, 9 accepted, 1 rejected", "y (the last column)", "rejected 1: <not> a number", "a note"):
        assert part in text
    page = report()._repr_html_()
    assert "&lt;not&gt; a number" in page and "<not>" not in page


def test_what_is_not_known_is_said_so() -> None:
    unknown = report(rows=None, rejected=None, identical=None, fields=from_statistics([], CLEANED))
    assert "an unknown number read" in str(unknown)
    assert unknown.repaired == {}


def test_repaired_counts_only_what_is_changed() -> None:
    assert report().repaired == {"a": 3}
    kept = with_clean(outliers={"method": "iqr", "action": "keep", "k": 3.0})
    assert report(fields=fields_of(ROWS, kept)).repaired == {"a": 2}
