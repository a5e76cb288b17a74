"""Sources a Pipeline declares are checked as a whole, so that ingest never meets one it cannot pull."""

import json
from typing import Any

import pytest

from lepton.contracts.pipeline import InvalidPipeline, Pipeline, compatible, from_json, parse

SQL = {"kind": "sql", "url_from": "LEPTON_SOURCE_A", "table": "t", "cursor": "id"}
HTTP = {"kind": "http", "url": "https://api.test/x"}
LOG = {"kind": "log", "path": "/var/log/*.log"}
KAFKA = {"kind": "kafka", "topic": "feed"}


def pipeline(*pull: dict[str, Any]) -> Pipeline:
    return from_json(json.dumps({
        "apiVersion": "lepton/v1", "kind": "Pipeline", "metadata": {"name": "a"},
        "events": {"fields": {"price": {"type": "float"}}}, "sources": {"pull": list(pull)}}))


@pytest.mark.parametrize("source", [
    SQL, SQL | {"tie": "line"}, SQL | {"table": None, "query": "with x as (select 1) select * from x"}, HTTP,
    HTTP | {"paging": "cursor", "next": "meta.next"}, HTTP | {"paging": "link"}, LOG,
    LOG | {"pattern": r"(?P<price>\d+)", "time_format": "%s"}, KAFKA,
    KAFKA | {"bootstrap": "h:9092", "security": "SASL_SSL", "username": "u", "password_from": "LEPTON_SOURCE_P"}])
def test_what_ingest_can_pull_is_accepted_and_survives_a_round_trip(source: dict[str, Any]) -> None:
    made = pipeline(source | {"name": "one"})
    assert from_json(made.canonical_json()) == made


@pytest.mark.parametrize(("source", "path", "message"), [
    (SQL | {"url_from": "LEPTON_MONGO_URL"}, "url_from", "begins with LEPTON_SOURCE_"),
    (SQL | {"url_from": "postgresql://u:p@h/d"}, "url_from", "begins with LEPTON_SOURCE_"),
    (SQL | {"tie": "id"}, "tie", "same column"), (SQL | {"table": None}, "", "either table or query"),
    (SQL | {"table": None, "query": "delete from t"}, "query", "not one SELECT"),
    (SQL | {"table": None, "query": "select 1; drop table t"}, "query", "not one SELECT"),
    (SQL | {"rename": {"p": "prize"}}, "rename.p", "no member"),
    (SQL | {"rename": {"p": "price", "q": "price"}}, "rename", "two columns"),
    (HTTP | {"url": "file:///etc/passwd"}, "url", "no http"), (HTTP | {"url": "https://[x"}, "url", "no http"),
    (HTTP | {"url": "https://u:p@api.test/x"}, "url", "user or password"),
    (HTTP | {"paging": "cursor"}, "next", "needs to know"), (HTTP | {"next": "x"}, "next", "follows no next"),
    (HTTP | {"header": "X Y"}, "header", "no name"), (LOG | {"path": "log/x"}, "path", "absolute"),
    (LOG | {"path": "/var/../etc/x"}, "path", "absolute"), (LOG | {"time_format": "%Y"}, "time_format", "RFC 3339"),
    (KAFKA | {"topic": "lepton-events-a"}, "topic", "platform's own"), (KAFKA | {"topic": "a b"}, "topic", "no name"),
    (KAFKA | {"bootstrap": "h"}, "bootstrap", "host:port"), (KAFKA | {"username": "u"}, "bootstrap", "not named"),
    (KAFKA | {"bootstrap": "h:1", "security": "SASL_SSL"}, "security", "needs a user"),
    (KAFKA | {"bootstrap": "h:1", "username": "u"}, "security", "takes no user"),
    ({"kind": "ftp"}, "", "ftp")])
def test_one_wrong_thing_is_said_at_its_path(source: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        pipeline(source | {"name": "one"})
    (problem,) = caught.value.problems
    assert problem.path == "sources.pull[0]" + (f".{path}" if path else "")
    assert message in problem.message


@pytest.mark.parametrize(("pattern", "message"), [
    ("(", "no regular"), ("x+", "no named group"), ("(?P<a>x)(?=y)", "(?="), (r"(?P<a>x)\1", r"\1")])
def test_a_pattern_that_takes_more_than_linear_time_is_refused_when_it_is_applied(pattern: str, message: str) -> None:
    stored = pipeline(LOG | {"name": "one", "pattern": pattern})
    with pytest.raises(InvalidPipeline) as caught:
        parse(stored.to_yaml())
    (problem,) = caught.value.problems
    assert (problem.path, bool(problem.line), bool(problem.remedy)) == ("sources.pull[0].pattern", True, True)
    assert message in problem.message


def test_a_secret_written_instead_of_its_name_is_not_repeated() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        pipeline(SQL | {"name": "one", "url_from": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in str(caught.value) + str(caught.value.problems)


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidPipeline, match="name of its own"):
        pipeline(SQL | {"name": "one"}, LOG | {"name": "one"})


@pytest.mark.parametrize(("before", "after", "fits"), [
    (SQL, SQL | {"batch_rows": 5, "rename": {"p": "price"}}, True), (SQL, SQL | {"cursor": "other"}, False),
    (SQL, SQL | {"table": "other"}, False), (SQL, LOG, False), (LOG, LOG | {"path": "/var/log/x"}, True),
    (HTTP, HTTP | {"paging": "page"}, False), (KAFKA, KAFKA | {"topic": "other"}, False)])
def test_a_name_keeps_the_place_its_cursor_is_in(before: dict[str, Any], after: dict[str, Any], fits: bool) -> None:
    reasons = compatible(pipeline(before | {"name": "one"}), pipeline(after | {"name": "one"}))
    assert (reasons == []) == fits
    assert compatible(pipeline(before | {"name": "one"}), pipeline(after | {"name": "two"})) == []
