"""`features.transforms`: what is read, and every way it can be wrong with its line."""

import pytest

from lepton.contracts.modelling.transforms import Tfidf
from lepton.contracts.pipeline import InvalidPipeline, from_json, parse

HEAD = """apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  fields:
    note: {type: text}
    amount: {type: float}
    visits: {type: int}
    town: {type: category}
    hidden: {type: text, input: false}
  label: {field: bought, type: bool}
features:
  windows:
    - {name: day, size: 1d, of: amount, aggregates: [sum]}
  transforms:
"""
FIRST_LINE = HEAD.count("\n") + 1


def problems(*lines: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidPipeline) as raised:
        parse(HEAD + "\n".join(f"    - {line}" for line in lines))
    return [(one.line - FIRST_LINE, one.path, one.message) for one in raised.value.problems]


def test_transforms_are_read_with_their_defaults_and_survive_json() -> None:
    pipeline = parse(HEAD + "    - {kind: tfidf, of: [note], components: 5}\n"
                            "    - {kind: pca, of: [amount, visits, day_sum], components: 2}\n"
                            "    - {kind: target_encoding, of: [town]}\n")
    assert pipeline.features.transforms[0] == Tfidf(of=("note",), components=5)
    assert pipeline.features.windows[0].columns == ("day_sum",)
    assert from_json(pipeline.canonical_json()) == pipeline


def test_without_transforms_there_are_none() -> None:
    assert parse(HEAD.replace("  transforms:\n", "")).features.transforms == ()


@pytest.mark.parametrize(("line", "path", "message"), [
    ("{kind: tfidf, of: [town]}", "[0].of[0]", "tfidf takes no category"),
    ("{kind: lda, of: [amount]}", "[0].of[0]", "lda takes no float"),
    ("{kind: lda, of: [note], topics: 1}", "[0].topics", "should be greater than or equal to 2, not 1"),
    ("{kind: pca, of: [amount, note]}", "[0].of[1]", "pca takes no text"),
    ("{kind: hashing, of: [bought]}", "[0].of[0]", "`bought` is no field or window column a model could take"),
    ("{kind: tfidf, of: [hidden]}", "[0].of[0]", "`hidden` is no input of the model"),
    ("{kind: scale, of: [amount, amount]}", "[0].of[1]", "`amount` has a scale already"),
    ("{kind: pca, of: [amount], components: 2}", "[0].components", "there are no more components than numbers"),
    ("{kind: tfdf, of: [note]}", "[0]", "there is no kind `tfdf`"),
    ("{kind: topics, of: [note]}", "[0]", "there is no kind `topics`"),
    ("{of: [note]}", "[0]", "`kind` is required"),
    ("{kind: hashing, of: [town], bukets: 3}", "[0].bukets", "unknown key `bukets`"),
    ("{kind: hashing, of: [town], buckets: 1}", "[0].buckets", "should be greater than or equal to 2, not 1")])
def test_what_is_wrong_is_named_with_its_place(line: str, path: str, message: str) -> None:
    assert problems(line) == [(0, f"features.transforms{path}", message)]


@pytest.mark.parametrize(("model", "line", "message"), [
    ("{family: cnn}", "{kind: tfidf, of: [note]}", "cnn reads `note` word by word"),
    ("{family: mlp, explain: {rows: true}}", "{kind: pca, of: [amount]}",
     "a column of several fields cannot say what each field did"),
    ("{family: mlp, train: {stream: {}}}", "{kind: scale, of: [amount]}",
     "they cannot stand beside model.train.stream"),
    ("{family: mlp, transfer: {from: {model: other}}}", "{kind: target_encoding, of: [country]}",
     "target_encoding says what labels were, and another model's are others"),
    ("{family: autoencoder}", "{kind: scale, of: [amount]}", "autoencoder takes its fields as they are")])
def test_what_a_model_cannot_learn_from_them_is_refused(model: str, line: str, message: str) -> None:
    with pytest.raises(InvalidPipeline) as raised:
        parse(f"{HEAD}    - {line}\nmodel: {model}\n")
    assert message in [one.message for one in raised.value.problems]


def test_all_problems_come_at_once() -> None:
    found = problems("{kind: tfidf, of: [town]}", "{kind: scale, of: [note]}")
    assert [place for place, _, _ in found] == [0, 1]

