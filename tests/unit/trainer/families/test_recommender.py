"""A recommender answers with a list for anybody, better than the same list for everybody, and is measured by it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts.modelling.blocks import Roles
from lepton.contracts.pipeline import InvalidPipeline, parse
from services.predictor.core import answers, signature
from services.trainer import worker
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.learning import Given, Learned, learn, manifest
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.preparing.rows import inputs_of
from services.trainer.core.transforming.fitting import prepared_by
from tests.unit.trainer.families.planned import plan_of, rows_of
from tests.unit.trainer.families.readers import ratings
from tests.unit.trainer.folders import furnish

COUNT, EPOCHS = 3000, 12
TEXT = Path(__file__).with_name("readers.yaml").read_text("utf-8")
SPEC = parse(TEXT)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return rows_of(SPEC, ratings(COUNT))


@pytest.fixture(scope="module")
def learned(rows: pa.Table) -> Learned:
    return learn(plan_of(SPEC, {"epochs": EPOCHS}), Given(rows), [])


def asked(plan: Plan, learned: Learned, readers: list[str | None], evening: bool = True) -> dict[str, Any]:
    table = pa.table({"reader": pa.array(readers, pa.string()), "evening": pa.array([evening] * len(readers))})
    return Session(learned.exported.data).answers(inputs_of(plan.fields, table))


def test_its_lists_are_better_than_the_most_popular_items(learned: Learned) -> None:
    found = learned.metrics
    for name in ("ndcg", "hit_rate", "mrr", "coverage"):
        assert found[name] > 1.2 * found[f"baseline_{name}"], name
    assert 0 <= found["mrr"] <= found["ndcg"] <= found["hit_rate"] <= 1
    assert found["unlisted_share"] < 0.05


def test_layers_over_user_and_item_learn_too_and_answer_the_same_from_the_file(rows: pa.Table) -> None:
    plan = plan_of(SPEC, {"epochs": 4, "hidden": (8, 4), "dropout": 0.1})
    deep = learn(plan, Given(rows.slice(0, 1500)), [])
    assert deep.metrics["ndcg"] > deep.metrics["baseline_ndcg"]
    assert deep.weights == learn(plan, Given(rows.slice(0, 1500)), []).weights


def test_somebody_unknown_is_shown_much_what_everybody_likes(rows: pa.Table, learned: Learned) -> None:
    plan = plan_of(SPEC)
    found = asked(plan, learned, ["nobody-knows-them", None, "", "reader-000"])
    lists = found["items"].tolist()
    assert lists[0] == lists[1] == lists[2] != lists[3]
    liked = [row["book"] for row in ratings(COUNT) if row["rating"] >= 4]
    popular = sorted(set(liked), key=lambda one: -liked.count(one))[:20]
    assert len(set(lists[0]) & set(popular)) >= 4
    assert (np.diff(found["scores"], axis=1) <= 0).all()
    assert found["label"].tolist() == [one[0] for one in lists]


def test_an_item_that_nobody_liked_is_in_no_list_and_its_likings_are_missed(rows: pa.Table) -> None:
    books = rows.column("book").to_pylist()
    marks = rows.column(LABEL).to_pylist()
    chance = np.random.default_rng(3)
    new = [f"new-{place}" if chance.random() < 0.1 else book for place, book in enumerate(books)]
    changed = rows.set_column(rows.column_names.index("book"), "book", pa.array(new))
    changed = changed.set_column(changed.column_names.index(LABEL), LABEL, pa.array(
        [1 if name.startswith("new-0") else mark for name, mark in zip(new, marks, strict=True)]))
    found = learn(plan_of(SPEC, {"epochs": 1}), Given(changed), [])
    assert found.metrics["unlisted_share"] > 0.03
    assert found.metrics["hit_rate"] <= 1 - found.metrics["unlisted_share"]


def test_users_are_numbered_in_the_file_and_named_in_no_manifest(learned: Learned) -> None:
    said = manifest(plan_of(SPEC), learned, "test")
    assert "reader-000" not in str(said)
    assert not said.classes
    again = prepared_by(json.loads(json.dumps(learned.preparation.to_data())))
    assert again == learned.preparation


def test_the_predictor_answers_with_items_and_scores(learned: Learned) -> None:
    plan = plan_of(SPEC)
    said = manifest(plan, learned, "test")
    answers.check(said, signature.of_manifest(said))
    outputs = asked(plan, learned, ["reader-001"])
    (row,) = answers.named(answers.read(outputs, tuple(said.classes)))
    assert [one.item for one in row.top] == outputs["items"][0].tolist()
    assert row.label == row.top[0].item
    assert len(row.top) == 5


def test_the_champion_is_measured_by_the_names_of_its_items(rows: pa.Table, learned: Learned) -> None:
    plan = plan_of(SPEC, {"epochs": 1}, champion=Rival(version=1))
    other = rows.filter(pa.array([one != "crime-01" for one in rows.column("book").to_pylist()]))
    found = learn(plan, Given(other, champion=learned.exported.data), [])
    assert found.champion_metrics is not None
    assert found.champion_metrics["ndcg"] > found.metrics["ndcg"]


def test_a_row_is_a_liking_by_itself_where_there_is_no_label(rows: pa.Table) -> None:
    liked = rows.filter(pa.array([mark >= 4 for mark in rows.column(LABEL).to_pylist()])).slice(0, 400)
    bare = liked.set_column(liked.column_names.index(LABEL), LABEL, pa.nulls(liked.num_rows, pa.float64()))
    plain = plan_of(SPEC, {"epochs": 1}, label_type=None, roles=Roles(user="reader", item="book"))
    assert learn(plain, Given(bare), []).weights == learn(plan_of(SPEC, {"epochs": 1}), Given(liked), []).weights


def test_one_item_leaves_nothing_to_choose(rows: pa.Table) -> None:
    one = rows.set_column(rows.column_names.index("book"), "book", pa.array(["only"] * rows.num_rows))
    with pytest.raises(RunFailed, match="fewer than two items") as failure:
        learn(plan_of(SPEC), Given(one), [])
    assert failure.value.failure_class == "data"


def test_a_worker_leaves_a_result_with_the_figures_of_the_gate(tmp_path: Path, rows: pa.Table) -> None:
    furnish(tmp_path, plan_of(SPEC, {"epochs": 1}), rows)
    assert worker.train(tmp_path) == 0
    assert not (tmp_path / worker.FAILURE).exists()
    result = json.loads((tmp_path / worker.RESULT).read_text())
    assert {"ndcg", "baseline_ndcg", "coverage"} <= set(result["manifest"]["metrics"])


@pytest.mark.parametrize(("before", "after", "said"), [
    ("user: reader, ", "", "which field is the user"),
    ("liked_from: 4", "done: evening", "has no done"),
    (", liked_from: 4", "", "the label is a int"),
    ("item: book", "item: evening", "is a bool"),
    ("metric: ndcg", "metric: accuracy", "does not measure ranking"),
    ("evening: {", "scores: {", "what a part of the answer is called"),
    ("factors: 8", "class_weights: balanced, bins: 3", "bins")])
def test_a_pipeline_that_cannot_recommend_is_refused(before: str, after: str, said: str) -> None:
    assert before in TEXT
    with pytest.raises(InvalidPipeline) as refused:
        parse(TEXT.replace(before, after))
    assert any(said in str(problem) for problem in refused.value.problems)
