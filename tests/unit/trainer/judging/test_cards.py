"""What a card tells: slices, groups, importance, curves and cautions, in a bundle that is the same for the same run."""

import io
import json
import zipfile
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from lepton.contracts.modelling.blocks import Evaluate, Fairness, Parameters
from lepton.contracts.pb.training_pb2 import RUN_STATE_REJECTED
from lepton.contracts.pipeline_blocks import Gate
from services.trainer.core.gate import decide
from services.trainer.core.judging import curves
from services.trainer.core.judging.answered import Answered
from services.trainer.core.judging.slices import fairness, slices, wilson
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import Rival
from services.trainer.core.telling.card import bundle, plain
from services.trainer.core.telling.cautions import cautions
from tests.unit.trainer import samples
from tests.unit.trainer.world import SPEC, World, state_of

FEW = Parameters(epochs=4, learning_rate=0.05)


def opened(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def told(learned: Learned) -> tuple[str, dict[str, bytes]]:
    files = opened(bundle(learned.report))
    return files["card.md"].decode(), files


def test_a_classifiers_card_has_its_pictures_and_the_same_bytes_every_time() -> None:
    plan, rows = samples.mixed(parameters=FEW, evaluate=Evaluate(
        slices=("country", "visits"), fairness=Fairness(groups=("member",), criterion="accuracy")))
    learned = learn(plan, Given(rows), [])
    text, files = told(learned)
    assert sorted(name for name in files if name.endswith(".png")) == [
        "calibration.png", "confusion.png", "importance.png", "learning.png", "precision_recall.png", "roc.png"]
    assert all(files[name].startswith(b"\x89PNG") and f"]({name})" in text for name in files if name.endswith(".png"))
    assert bundle(learned.report) == bundle(learn(plan, Given(rows), []).report)
    report = json.loads(files["report.json"])
    assert report["metrics"] == pytest.approx(learned.metrics)
    assert sum(map(sum, report["confusion"])) == learned.held_out_rows
    assert report["importance"][0]["field"] in ("amount", "country")
    assert {one["value"] for one in report["slices"] if one["field"] == "country"} >= {"us", "de", "(missing)"}
    assert learned.metrics["fairness_gap"] == report["fairness"]["gap"]
    assert "## Between groups" in text


def test_a_card_of_numbers_shows_answers_beside_what_was_true() -> None:
    plan, rows = samples.diabetes(parameters=FEW)
    text, files = told(learn(plan, Given(rows), []))
    assert "answers.png" in files
    assert "confusion.png" not in files
    assert "| rmse |" in text
    assert "Answers a number for `label`" in text


def test_the_card_against_a_champion_says_what_the_lead_is_worth() -> None:
    plan, rows = samples.wine(parameters=FEW)
    champion = learn(plan, Given(rows), [])
    rival = plan.model_copy(update={"champion": Rival(version=1, classes=champion.target.classes)})
    text, _ = told(learn(rival, Given(rows, champion=champion.exported.data), []))
    assert "## Against the champion" in text
    assert "McNemar, exact" in text
    assert "Whether it is better than the champion cannot be told from these rows" in text


def test_a_field_that_is_no_input_tells_rows_apart_too() -> None:
    plan, rows = samples.breast_cancer(parameters=FEW, evaluate=Evaluate(slices=("clinic", "gone")))
    named = rows.append_column("clinic", pa.array(["north", "south", None] * 189 + ["north"] * 2))
    report = learn(plan, Given(named), []).report
    assert {one["value"] for one in report["slices"]} == {"north", "south", "(missing)"}
    assert sum(one["rows"] for one in report["slices"]) == report["held_out_rows"]


def test_numbers_are_sliced_by_quarter_and_shares_have_wilsons_bounds() -> None:
    answered = Answered(np.tile([0.3, 0.7], (100, 1)), (np.arange(100) < 80).astype(np.int64), ("no", "yes"))
    found = slices("age", pa.chunked_array([np.arange(100.0)]), answered)
    assert [one.rows for one in found] == [25] * 4
    assert wilson(80, 100) == pytest.approx((0.7112, 0.8666), abs=1e-4)
    first = next(one for one in found if one.value.startswith("up to"))
    assert first.metrics["accuracy"] == 1.0


def test_the_gap_between_groups_is_by_the_criterion() -> None:
    groups = pa.chunked_array([["a"] * 100 + ["b"] * 100 + ["c"] * 3])
    said = np.concatenate([np.arange(100) < 80, np.arange(100) < 40, [True] * 3])
    true = np.concatenate([np.arange(100) < 50, np.arange(100) < 50, [True] * 3])
    answered = Answered(np.stack([~said, said], axis=1).astype(float), true.astype(np.int64), ("no", "yes"))

    def gap(criterion: str) -> float | None:
        return fairness([("group", groups)], answered, criterion, 1.0).gap

    # Group c has too few rows to count.
    assert gap("demographic_parity") == pytest.approx(0.4)
    assert gap("equal_opportunity") == pytest.approx(0.2)
    assert gap("equalised_odds") == pytest.approx(0.6)
    assert gap("accuracy") == pytest.approx(0.2)


def test_a_candidate_that_treats_groups_too_differently_is_kept_out() -> None:
    gate, wanted = Gate(metric="accuracy"), Fairness(groups=("member",), at_most=0.1)
    assert decide(gate, {"accuracy": 0.9, "fairness_gap": 0.08}, None, fairness=wanted).passed
    assert decide(gate, {"accuracy": 0.9, "fairness_gap": 0.3}, None, fairness=wanted).reasons == (
        "groups are 0.3 apart by equal opportunity, more than 0.1",)
    assert decide(gate, {"accuracy": 0.9}, None, fairness=wanted).reasons == (
        "too few rows of member were held out to tell equal opportunity",)


def test_curves_are_scikit_learns() -> None:
    chance = np.random.default_rng(4)
    true = chance.random(150) < 0.4
    scores = (true * 0.3 + chance.random(150)).round(2)
    roc, ranked = curves.roc(scores, true, "yes"), curves.precision_recall(scores, true, "yes")
    assert roc is not None
    assert roc.area == pytest.approx(metrics.roc_auc_score(true, scores))
    assert ranked is not None
    assert ranked.area == pytest.approx(metrics.average_precision_score(true, scores))
    answered = Answered(np.stack([1 - scores, scores], axis=1), true.astype(np.int64), ("no", "yes"))
    assert curves.confusion(answered).tolist() == metrics.confusion_matrix(true, answered.said).tolist()
    assert curves.roc(scores, np.ones(150, dtype=bool), "yes") is None


def test_a_weak_version_is_cautioned_against() -> None:
    plan, rows = samples.breast_cancer(parameters=Parameters(epochs=1, learning_rate=1e-6))
    report = learn(plan, Given(rows.slice(0, 120)), []).report
    found = " ".join(cautions(report))
    assert "It is no better than" in found
    assert "rows only; its figures are rough" in found


def test_names_from_data_have_no_meaning_to_markdown() -> None:
    assert plain("a|b\n<script>[x](y)") == r"a\|b \<script\>\[x\](y)"


async def test_the_card_is_stored_with_the_version_that_names_it(world: World) -> None:
    world.pipelines["tumours"] = state_of(SPEC.replace(
        "model:\n", "model:\n  evaluate: {slices: [f0], fairness: {groups: [f0, f1], at_most: 0.001}}\n"))
    await world.rows(0, 240)
    run = await world.train()
    assert run.progress.state == RUN_STATE_REJECTED
    assert "apart by equal opportunity, more than 0.001" in run.progress.failure.message
    manifest = (await world.stores.models.state("tumours")).versions[0].manifest
    card = await world.stores.artifacts.get(manifest.card_sha256)
    assert sha256(card).hexdigest() == manifest.card_sha256
    text = opened(card)["card.md"].decode()
    assert text.startswith("# tumours: logistic regression")
    assert "## Where it is better and worse" in text
