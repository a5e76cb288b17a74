"""A candidate of the stream: the file answers as the learner would, on the rows it is judged on and on strange ones."""

import json

import numpy as np
import pytest
from sklearn import datasets

from lepton.contracts.modelling.blocks import Evaluate
from lepton.contracts.modelling.training_blocks import Stream
from lepton.contracts.pipeline_blocks import Outliers
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.plan import Plan, Range, Rival, Snapshot
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.rows import Array, Inputs
from services.trainer.core.streaming.candidate import graduate
from services.trainer.core.streaming.course import Course
from services.trainer.core.streaming.learner import StreamLearner
from services.trainer.core.streaming.record import Record
from services.trainer.core.streaming.trial import Trial
from services.trainer.core.telling.card import bundle
from services.trainer.core.telling.cautions import cautions
from services.trainer.core.weights import pack, unpack
from tests.unit.trainer import samples
from tests.unit.trainer.judging.test_cards import opened

STREAM = Stream(width=64)


def learnt(plan: Plan, rows: Inputs, truth: Array, classes: list[str]) -> tuple[bytes, StreamLearner]:
    """The state after the rows, of which the last fifty are the trial."""
    learner = StreamLearner(Course(plan.fields, plan.outliers, plan.task, max(1, len(classes)), plan.parameters.seed,
                                   STREAM.width, STREAM.replay_rows))
    record, trial = Record(plan.task), Trial()
    scores = learner.test_then_train(rows, truth)
    record.update(scores, truth)
    trial.add(rows.take(np.arange(rows.rows - 50, rows.rows)), truth[-50:], scores[-50:])
    parts = {"learner": learner.arrays(), "record": record.arrays(), "trial": trial.arrays()}
    return pack({f"{part}/{name}": array for part, some in parts.items() for name, array in some.items()},
                {"learner": learner.about(), "classes": classes}), learner


def inputs(data: Array) -> Inputs:
    return Inputs({f"f{place}": data[:, place] for place in range(data.shape[1])}, ~np.isfinite(data))


def plan(columns: int, **changes: object) -> Plan:
    return samples.plan({f"f{place}": "float" for place in range(columns)}, stream=STREAM, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("load", [datasets.load_breast_cancer, datasets.load_wine])
def test_the_file_answers_what_the_learner_would_answer_next(load: object) -> None:
    data = load()  # type: ignore[operator]
    order = np.random.default_rng(1).permutation(len(data.target))
    rows, truth = inputs(data.data[order]), data.target[order].astype(np.int64)
    names = [str(name) for name in data.target_names]
    asked = plan(data.data.shape[1], label_type="category")
    state, learner = learnt(asked, rows, truth, names)
    found = graduate(asked, state, None)
    answers = Session(found.exported.data).answers(rows.take(np.arange(40)))
    expected = learner.test_then_train(rows.take(np.arange(1)), truth[:1])
    np.testing.assert_allclose(answers["probabilities"][0], expected[0], atol=1e-4)
    assert (answers["label"] == np.array(names)[truth[:40]]).mean() > 0.9
    assert found.about.metrics["accuracy"] > 0.8 and found.about.metrics["prequential_accuracy"] > 0.8
    assert found.about.champion_metrics is None
    assert not [name for name in unpack(found.weights)[0] if name.startswith("trial")]
    assert graduate(asked, state, None).exported.data == found.exported.data


def test_its_card_is_of_what_it_answered_unseen_and_of_the_whole_stream() -> None:
    data = datasets.load_breast_cancer()
    order = np.random.default_rng(1).permutation(569)
    names = [str(name) for name in data.target_names]
    ranges = (Range(stream="features", pipeline="m", partition=0, first=3, next=9, digests=()),)
    asked = plan(30, label_type="category", evaluate=Evaluate(slices=("f0", "clinic")),
                 snapshot=Snapshot(ranges=ranges))
    state, _ = learnt(asked, inputs(data.data[order]), data.target[order].astype(np.int64), names)
    found = graduate(asked, state, None)
    files = opened(bundle(found.report))
    text, report = files["card.md"].decode(), json.loads(files["report.json"])
    pictures = [name for name in files if name.endswith(".png")]
    assert sorted(pictures) == ["calibration.png", "confusion.png", "course.png", "importance.png",
                                "precision_recall.png", "roc.png"]
    assert all(f"]({name})" in text for name in pictures)
    assert text.startswith("# m: stream\n") and "Learnt from 569 rows of a stream" in text
    assert "| features | m | 1 | 0 | 3 | 9 |" in text
    assert "not told apart by clinic" in text and {one["field"] for one in report["slices"]} == {"f0"}
    figures = report["stream"]["figures"]
    assert f"| accuracy | all | {figures['accuracy']:.4g} | {figures['baseline_accuracy']:.4g} |" in text
    # Not of the file, which knows these rows by now: of the answers it gave when it did not.
    unseen = unpack(state)[0]
    right = (unseen["trial/scores"].argmax(axis=1) == unseen["trial/truth"]).sum()
    assert np.trace(report["confusion"]) == right < (found.about.held_out_rows == 50) * 50
    assert found.about.metrics["accuracy"] == right / 50
    # 16 rows apart; the last point is a little before the end, the trial's answers are in it.
    assert [one["rows"] for one in report["stream"]["course"]] == list(range(16, 569, 16))
    assert report["stream"]["course"][-1]["fading_accuracy"] == pytest.approx(figures["fading_accuracy"], abs=0.02)
    assert bundle(graduate(asked, state, None).report) == bundle(found.report)
    poor = {**report, "stream": {**report["stream"], "figures": {**figures, "fading_accuracy": 0.5}}}
    assert "no better than the commonest answer" not in text
    assert sum("On the stream's newest rows it is no better than" in one for one in cautions(poor)) == 2


def test_a_number_and_its_champion_are_measured_on_the_same_rows() -> None:
    data = datasets.load_diabetes()
    asked = plan(10, task="regression", label_type="float")
    state, _ = learnt(asked, inputs(data.data), data.target, [])
    first = graduate(asked, state, None)
    rival = asked.model_copy(update={"champion": Rival(version=1)})
    second = graduate(rival, state, first.exported.data)
    assert second.about.champion_metrics is not None
    # The champion knows these very rows; the candidate's answers were given before it did.
    assert second.about.champion_metrics["rmse"] < second.about.metrics["rmse"] == first.about.metrics["rmse"]
    # Not a lead, and tested on the same rows, for a gate that asks about luck.
    assert second.about.metrics["champion_lead"] == pytest.approx(
        first.about.metrics["r2"] - second.about.champion_metrics["r2"])
    assert second.about.metrics["champion_chance"] > 0.5
    assert "champion_chance" not in first.about.metrics
    text = opened(bundle(second.report))["card.md"].decode()
    assert "## Against the champion" in text and "](answers.png)" in text and "](course.png)" in text
    assert f"| rmse | the newest | {second.about.metrics['prequential_fading_rmse']:.4g} |" in text


def test_texts_flags_and_gaps_are_answered_alike() -> None:
    chance = np.random.default_rng(3)
    fields = (PlannedField(name="word", type="text", missing=samples.MODE),
              PlannedField(name="size", type="int", missing=samples.MEAN),
              PlannedField(name="flag", type="bool", missing=samples.MODE))
    words = np.array(["a", "b", "Ω", ""], dtype=object)[chance.integers(0, 4, 200)]
    rows = Inputs({"word": words, "size": chance.integers(-9, 9, 200), "flag": chance.random(200) < 0.5},
                  chance.random((200, 3)) < 0.1)
    truth = ((words == "b") ^ (rows.values["size"] > 0)).astype(np.int64)
    asked = samples.plan({"word": "text"}, stream=STREAM).model_copy(
        update={"fields": fields, "outliers": Outliers()})
    state, _ = learnt(asked, rows, truth, ["false", "true"])
    assert graduate(asked, state, None).about.metrics["accuracy"] > 0.7


def test_one_class_alone_is_a_failure_of_the_data() -> None:
    data = datasets.load_wine()
    asked = plan(13, label_type="category")
    state, _ = learnt(asked, inputs(data.data[:59]), data.target[:59].astype(np.int64), ["class_0"])
    with pytest.raises(RunFailed, match="the same label") as failed:
        graduate(asked, state, None)
    assert failed.value.failure_class == "data"
