"""Any Pipeline comes back the same from its YAML and its JSON; any text is read or has its problems named."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.pipeline import InvalidPipeline, compatible, from_json, parse
from lepton.contracts.reading.lines import read, write

NAMES = st.from_regex(r"\A[a-z][a-z0-9_]{0,10}\Z").filter(lambda name: name not in (
    "default", "event_id", "occurred_at", "the_label"))
TRICKY = ["no", "yes", "null", "~", "1e3", "0x1f", "2026-01-01", "1:30", "=", "<<", "- a", "# x", " a ", "'", '"', "{"]
TEXTS = (st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
         | st.sampled_from(TRICKY))


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["float", "int", "bool", "category", "text", "vector", "sequence", "image",
                                 "timestamp"]))
    spec: dict[str, Any] = {"type": kind, "required": draw(st.booleans())}
    if kind in ("float", "int") and draw(st.booleans()):
        low, high = sorted([draw(st.integers(-10**9, 10**9)), draw(st.integers(-10**9, 10**9))])
        spec["range"] = [low, high + draw(st.floats(0, 1))]
        spec["out_of_range"] = draw(st.sampled_from(["reject", "clip"] if spec["required"] else ["clip", "null"]))
    if kind in ("vector", "sequence", "image", "timestamp"):
        spec["input"] = False
    if kind == "vector":
        spec["dims"] = draw(st.integers(1, 65_536))
    if kind == "text":
        spec["normalise"] = draw(st.lists(st.sampled_from(["trim", "lower", "nfc", "collapse"]), unique=True))
    if kind == "float" and draw(st.booleans()):
        return spec | {"unit": "degC", "accept_units": draw(st.lists(st.sampled_from(["degF", "K"]), unique=True))}
    if kind == "category" and draw(st.booleans()):
        spec["categories"] = draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    if draw(st.booleans()):
        spec["unit"] = draw(TEXTS)
    return spec


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, Any]:
    events: dict[str, Any] = {"fields": draw(st.dictionaries(NAMES, specs(), min_size=1, max_size=6)),
                              "partitions": draw(st.integers(1, 64))}
    label = draw(st.none() | st.sampled_from(["float", "int", "bool", "category"]))
    if label:
        arrives = draw(st.sampled_from(["later", "with_event"]))
        events["label"] = {"field": "the_label", "type": label, "arrives": arrives}
    return {"apiVersion": "lepton/v1", "kind": "Pipeline", "metadata": {"name": "any"}, "events": events,
            "heal": {"notify": draw(st.lists(TEXTS, max_size=3))}}


@given(pipelines())
def test_yaml_and_json_give_the_same_pipeline_back(data: dict[str, Any]) -> None:
    pipeline = parse(write(data))
    again = parse(pipeline.to_yaml())
    assert again == pipeline
    assert list(again.fields) == list(pipeline.fields)
    stored = from_json(pipeline.canonical_json())
    assert stored == pipeline
    assert stored.digest() == again.digest() == pipeline.digest()
    assert stored.input_schema_digest() == pipeline.input_schema_digest()
    assert compatible(pipeline, stored) == []


JSON = st.recursive(st.none() | st.booleans() | st.integers(-10**12, 10**12) | st.floats(allow_nan=False) | TEXTS,
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
                    max_leaves=12)


@given(JSON)
def test_what_is_written_is_read_back(data: Any) -> None:
    source, problems = read(write(data))
    assert problems == []
    assert source.data == data


@given(st.text(max_size=200) | JSON.map(write))
def test_any_text_is_a_pipeline_or_a_list_of_problems(text: str) -> None:
    try:
        parse(text)
    except InvalidPipeline as error:
        assert error.problems
        assert all(problem.path and problem.message and problem.line >= 0 for problem in error.problems)


@given(pipelines(), st.data())
def test_one_misspelt_key_is_found_wherever_it_is(data: dict[str, Any], draw: st.DataObject) -> None:
    places: list[dict[str, Any]] = [data, data["metadata"], data["events"], data["heal"],
                                    *data["events"]["fields"].values()]
    draw.draw(st.sampled_from(places))["zzz_unknown"] = 1
    try:
        parse(write(data))
    except InvalidPipeline as error:
        assert [problem.path.split(".")[-1] for problem in error.problems] == ["zzz_unknown"]
        assert error.problems[0].line > 0
    else:
        raise AssertionError("a misspelt key was accepted")
