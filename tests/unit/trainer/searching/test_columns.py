"""What `auto` does with fields that no transform is declared for."""

import json
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.training_blocks import Adversarial, Augment
from lepton.contracts.modelling.transforms import Hashing, OneHot, QuantileBins, Scale, TargetEncoding, Tfidf
from lepton.contracts.pb import models_pb2
from lepton.contracts.pipeline_blocks import FieldType, Search
from services.trainer.core.dataset import LABEL
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan
from services.trainer.core.searching import study, trials
from services.trainer.core.searching.columns import settled
from services.trainer.core.searching.menu import PLAIN, Entry, Menu
from services.trainer.core.searching.offering import MAX_VALUES, menu_of
from services.trainer.core.searching.search import Notes, find
from tests.unit.trainer import samples

BINS = QuantileBins(of=("f0",))
MENU = Menu(((Entry("bins", (BINS,)), Entry("robust", (Scale(of=("f0",), method="robust"),))),
             (Entry("more", (Scale(of=("f1",), method="min_max"),)),)))


def notes(kept: bytes | None = None, saved: list[bytes] | None = None) -> Notes:
    """A world whose time stands still."""
    return Notes(kept, (saved if saved is not None else []).append, lambda *_: None, lambda: 0.0)


def told(plan: Plan) -> models_pb2.Search:
    return json_format.Parse(plan.found, models_pb2.Search())


def planned(trials: int = 25) -> Plan:
    return samples.wine(family="auto", search=Search(trials=trials, epochs=3))[0]


def rows_of(kind: str, count: int = 2600) -> tuple[Plan, pa.Table]:
    """Rows whose label hangs on one field in a way that its usual columns do not tell; the other says nothing."""
    chance = np.random.default_rng(3)
    place = chance.permutation(count)
    values: Any = {
        # Far out, and what counts is the tenth of the rows it lies in.
        "float": np.exp(4 * chance.normal(size=count)),
        "category": np.array([f"shop-{number % 200}" for number in place], dtype=object),
        "text": np.array([f"{'good' if number % 7 < 3 else 'bad'} thing number {number}" for number in place],
                         dtype=object)}[kind]
    labels = {"float": (np.argsort(np.argsort(values)) * 10 // count % 2 == 0) if kind == "float" else None,
              "category": place % 200 * 7919 % 11 < 5, "text": place % 7 < 3}[kind]
    fields: dict[str, FieldType] = {"said": kind, "other": "bool"}  # type: ignore[dict-item]  # one of the three
    columns = {"said": values, "other": chance.integers(0, 2, count).astype(bool)}
    plan = samples.plan(fields, family="auto", search=Search(trials=9), rows=count,
                        parameters=Parameters(epochs=8, batch_size=256, learning_rate=0.1, l2=1e-5, members=1, units=4,
                                              vocabulary=40, tokens=5))
    return plan, samples.rows(columns, labels, fields)


@pytest.mark.parametrize(("kind", "found"), [
    ("float", {"quantile_bins"}), ("category", {"target_encoding", "one_hot"}), ("text", {"tfidf"})])
def test_columns_are_found_where_the_usual_ones_tell_nothing(kind: str, found: set[str]) -> None:
    plan, rows = rows_of(kind)
    taken = trials.searched(plan, rows, notes())
    assert {one.kind for one in taken.transforms} & found and all(one.of == ("said",) for one in taken.transforms)
    account = told(taken)
    chosen = next(one for one in account.trials if one.number == account.chosen)
    assert json.loads(chosen.transforms_json) == [
        one.model_dump(mode="json", exclude_none=True) for one in taken.transforms]
    assert f"{taken.transforms[-1].kind} of said" in account.explanation
    # A manifest travels with nine others, and a transform may name every field.
    assert not any(one.transforms_json for one in account.trials if one is not chosen)
    assert learn(taken, Given(rows), []).metrics["accuracy"] > 0.85


def test_declared_transforms_stay_and_their_fields_are_not_tried() -> None:
    plan, rows = rows_of("float")
    declared = (Scale(of=("said",), method="robust"),)
    plan = plan.model_copy(update={"transforms": declared, "search": Search(trials=3, epochs=1)})
    assert menu_of(plan, rows) == PLAIN
    assert trials.searched(plan, rows, notes()).transforms == declared
    both = find(planned().model_copy(update={"transforms": declared}), lambda: worth({"bins"}), notes(), MENU)
    assert both.transforms == (*declared, BINS)


def worth(names: set[str], least: float = 0.2, again: float = 0.2, usual: float = 0.5) -> study.Attempt:
    """Trials whose loss is `least` with all those entries, and `again` when tried again; `usual` with others."""
    wanted = {one for kind in MENU.kinds for entry in kind if entry.name in names for one in entry.transforms}

    def judged(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        for epoch in range(1, plan.parameters.epochs + 1):
            after_epoch(0, epoch, 1.0)
        worse = 0.01 * plan.parameters.l2 + (0.2 if plan.family == "mlp" else 0.0)
        if not wanted <= set(plan.transforms):
            return study.Judged(usual + worse, 0.05, 5)
        return study.Judged((least if plan.parameters.seed == Parameters().seed else again) + worse, 0.05, 5)

    return judged


@pytest.mark.parametrize(("least", "again", "taken"), [
    (0.2, 0.2, True), (0.46, 0.2, False), (0.2, 0.46, False), (0.2, 0.9, False)])
def test_columns_are_taken_only_if_better_by_more_than_an_error_and_again(
        least: float, again: float, taken: bool) -> None:
    found = find(planned(), lambda: worth({"bins"}, least, again), notes(), MENU)
    assert found.transforms == ((BINS,) if taken else ())
    explanation = told(found).explanation
    assert ("so they stay as they are" in explanation) == (not taken)
    assert ("not seen to do better again" in explanation) == (not taken and least < 0.4)


def test_columns_that_could_not_be_tried_again_are_not_taken() -> None:
    def once(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        if plan.parameters.seed != Parameters().seed and not plan.transforms:
            raise study.Pruned("the search's time is over")
        return worth({"bins"})(plan, after_epoch)

    found = find(planned(), lambda: once, notes(), MENU)
    assert found.transforms == () and "not seen to do better again" in told(found).explanation


def trial(number: int, columns: tuple[str, ...], loss: float, error: float = 0.02, folds: int = 5) -> study.Trial:
    return study.Trial(number, "mlp", {}, {}, "complete", loss, error, columns=columns, folds=folds)


def test_what_is_taken_stays_whatever_trials_with_it_come_to_later() -> None:
    first = [trial(1, (), 0.52), trial(2, ("bins",), 0.495), trial(3, ("robust",), 0.6)]
    assert settled(MENU, "mlp", first) == (("bins",), ("bins", "more"))
    ended = [*first, trial(4, ("bins", "more"), 0.5)]
    assert settled(MENU, "mlp", ended) == (("bins",), None)
    assert settled(MENU, "mlp", [*ended, trial(5, ("bins",), 0.494, 0.03), trial(6, (), 0.48)]) == (("bins",), None)


def test_columns_that_were_judged_by_other_folds_are_not_better() -> None:
    first = [trial(1, (), 0.52), trial(2, ("bins",), 0.3, folds=4), trial(3, ("robust",), 0.6)]
    assert settled(MENU, "mlp", first) == ((), ("more",))


def test_what_is_found_for_one_type_of_field_stays_while_the_next_is_tried() -> None:
    saved: list[bytes] = []
    find(planned(), lambda: worth({"bins"}), notes(saved=saved), MENU)
    ended = study.Kept.from_json(saved[-1]).trials
    linear = [one for one in ended if one.family == "logistic_regression"]
    assert list(dict.fromkeys(one.columns for one in linear)) == [(), ("bins",), ("robust",), ("bins", "more")]
    # The path of penalties again, with what was taken.
    assert {one.parameters["l2"] for one in linear if one.columns == ("bins",)} >= {0.003, 0.01, 0.03, 0.001, 0.1}
    assert all(one.columns in (("bins",), ("robust",), ("bins", "more")) for one in linear[7:])


def test_trials_are_drawn_as_without_a_menu_where_nothing_of_it_is_taken() -> None:
    found: list[list[tuple[str, dict[str, Any]]]] = []
    for menu in (PLAIN, MENU):
        saved: list[bytes] = []
        taken = find(planned(18 + (6 if menu is MENU else 0)), lambda: worth({"bins"}, 0.49), notes(saved=saved), menu)
        assert taken.transforms == ()
        found.append([(one.family, one.drawn) for one in study.Kept.from_json(saved[-1]).trials if not one.columns])
    assert found[0] == found[1]


def test_a_search_with_a_menu_finds_the_same_in_one_life_or_in_many() -> None:
    saved: list[bytes] = []
    whole = find(planned(), lambda: worth({"robust"}), notes(saved=saved), MENU)
    assert [one.kind for one in whole.transforms] == ["scale"]
    for kept in saved[::5]:
        assert find(planned(), lambda: worth({"robust"}), notes(kept), MENU) == whole


def test_of_a_single_fold_whose_error_nobody_knows_a_little_better_is_not_enough() -> None:
    def judged(loss: float, plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        return study.Judged(loss if BINS in plan.transforms else 0.5)

    assert find(planned(), lambda: partial(judged, 0.495), notes(), MENU).transforms == ()
    assert find(planned(), lambda: partial(judged, 0.45), notes(), MENU).transforms == (BINS,)


def test_rows_are_prepared_once_for_each_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: Counter[tuple[object, ...]] = Counter()
    plan, rows = rows_of("float", 700)
    plan = plan.model_copy(update={"search": Search(trials=8, epochs=1)})
    real = trials.folds_of

    def counted(plan: Plan, rows: pa.Table) -> list[trials.Fold]:
        prepared[plan.transforms, plan.parameters.seed] += 1
        return real(plan, rows)

    monkeypatch.setattr(trials, "folds_of", counted)
    trials.searched(plan, rows, notes())
    assert len({transforms for transforms, _ in prepared}) == 3 and set(prepared.values()) == {1}


def test_the_menu_follows_types_and_values() -> None:
    count = 6000
    place = np.arange(count)
    fields: dict[str, FieldType] = {"number": "float", "few": "int", "flag": "bool", "small": "category",
                                    "wide": "category", "wider": "category", "note": "text", "word": "text"}
    columns = {"number": place * 1.0, "few": place % 9, "flag": place % 2 == 0,
               **{name: np.array([f"v{number % size}" for number in place], dtype=object) for name, size in (
                   ("small", 8), ("wide", 100), ("wider", 1500), ("note", 999), ("word", 20))}}
    rows = samples.rows(columns, place % 2 == 0, fields)
    plan = samples.plan(fields, family="auto", search=Search())
    numbers, categories, texts = menu_of(plan, rows).kinds
    bins = QuantileBins(of=("number",))
    assert numbers == (Entry("quantile_bins", (bins,)), Entry("scale+quantile_bins", (Scale(of=("number",)), bins)))
    assert categories == (
        Entry("target_encoding", (TargetEncoding(of=("wide", "wider")),)),
        Entry("one_hot+hashing", (OneHot(of=("wide",), max_categories=1024), Hashing(of=("wider",), buckets=256))))
    assert texts == (Entry("tfidf", (Tfidf(of=("note",)),)),)
    menu = menu_of(plan, rows)
    assert menu.of("gru") == menu.of("cnn") == () and menu.of("mlp") == menu.kinds
    for moved in ({"adversarial": Adversarial()}, {"augment": Augment(noise=0.1)}):
        assert menu_of(plan.model_copy(update=moved), rows).kinds == (categories, texts)
    assert menu_of(plan.model_copy(update={"augment": Augment(drop_words=0.1)}), rows) == menu
    for other in ({"family": "mlp"}, {"fixed_columns": True}):
        assert menu_of(plan.model_copy(update=other), rows) == PLAIN
    many = pa.concat_tables([rows] * (MAX_VALUES // 1000 // count + 2))
    (tfidf,) = menu_of(plan, many).kinds[-1]
    assert tfidf.transforms == (Tfidf(of=("note",), components=50),)
    # The same rows in five folds are five times as many.
    folds = MAX_VALUES // 1000 // count + 1
    assert menu_of(plan, rows, folds).kinds[-1][0].transforms == (Tfidf(of=("note",), components=50),)
    classes = rows.set_column(rows.schema.get_field_index(LABEL), LABEL, pa.array([f"c{one % 3000}" for one in place]))
    several = plan.model_copy(update={"label_type": "category"})
    assert all(entry.name != "target_encoding" for kind in menu_of(several, classes).kinds for entry in kind)


def test_what_a_fold_learnt_best_is_nothing_to_the_next() -> None:
    plan, rows = rows_of("category", 700)
    # Values seen twice are others in each fold, and so are the columns. Of so many rows some are set apart.
    plan = plan.model_copy(update={"rows": 2600, "search": Search(trials=2, epochs=2), "transforms": (
        OneHot(of=("said",), max_categories=1024),)})
    account = told(trials.searched(plan, rows, notes()))
    assert all(one.state == models_pb2.TRIAL_STATE_COMPLETE for one in account.trials)


def test_a_trial_is_timed_from_when_its_rows_are_ready() -> None:
    clock = [0.0]

    def slow_to_prepare(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        clock[0] += 30.0 if plan.transforms else 0.0
        after_epoch(0, 0, 0.0)
        for epoch in range(1, plan.parameters.epochs + 1):
            clock[0] += 0.1
            after_epoch(0, epoch, 1.0)
        return study.Judged(0.2 if BINS in plan.transforms else 0.5, 0.01, 5)

    plan = planned(12).model_copy(update={"search": Search(trials=12, epochs=60, seconds=900)})
    saved: list[bytes] = []
    found = find(plan, lambda: slow_to_prepare,
                 Notes(None, saved.append, lambda *_: None, lambda: clock[0]), MENU)
    # By its first epoch, with what went before it, the training that follows would take an hour.
    assert found.transforms == (BINS,) and clock[0] < 900
    beside = [one for one in study.Kept.from_json(saved[-1]).trials if one.columns == ("bins",)]
    assert beside[0].preparing_s == 30.0 and beside[0].seconds == pytest.approx(36.0)
