"""What parts of images, series and texts did: exact where all orders are, whole always, and told where asked for."""

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lepton.contracts.modelling.blocks import Explain, Parameters
from services.trainer.core.dataset import LABEL
from services.trainer.core.explaining.pieces import base_of, pieces_of
from services.trainer.core.explaining.shapley import Shapley, shapley_of
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.networks.stack import Stack
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.layout import Layout, Span
from services.trainer.core.preparing.part import ATTRIBUTIONS
from services.trainer.core.preparing.rows import inputs_of
from services.trainer.core.telling.card import bundle
from tests.unit.trainer.families import shapes
from tests.unit.trainer.judging.test_cards import opened

ORDERS = 8
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"channels": (4,), "hidden": (8,)}, "rnn": {"units": 6}, "lstm": {"units": 6}, "gru": {"units": 6},
    "transformer": {"units": 8, "heads": 2}}


def explained(plan: Plan, rows: pa.Table, parts: int = 16) -> Learned:
    return learn(plan.model_copy(update={"explain": Explain(rows=True, steps=ORDERS, parts=parts)}), Given(rows), [])


def small(family: str, kind: str) -> tuple[Plan, pa.Table]:
    words = {"tokens": 12} if kind == "notes" else {}
    make = {"digits": shapes.digits, "walks": shapes.walks, "notes": shapes.notes}[kind]
    plan, rows = make(family=family, count=120, epochs=2, **SMALL[family], **words)  # type: ignore[operator]
    return plan, rows


@pytest.mark.parametrize(("family", "kind", "tail"), [
    ("cnn", "digits", (4, 4)), ("cnn", "walks", (12,)), ("rnn", "walks", (12,)), ("lstm", "notes", (12,)),
    ("gru", "walks", (12,)), ("transformer", "notes", (12,)), ("transformer", "walks", (12,))])
def test_parts_add_up_to_their_field_and_fields_to_the_lead_of_the_score(
        family: str, kind: str, tail: tuple[int, ...]) -> None:
    plan, rows = small(family, kind)
    learned = explained(plan, rows)
    session, inputs = Session(learned.exported.data), inputs_of(plan.fields, rows)
    told = session.reasons(inputs)
    field = plan.fields[0].name
    assert told[f"attributions:{field}"].shape == (120, *tail)
    assert np.abs(told[f"attributions:{field}"].reshape(120, -1).sum(axis=1)
                  - told[ATTRIBUTIONS][:, 0]).max() < 1e-5
    # Beyond the file: the probabilities it answers, less what its fields did, are one base row's for each class.
    said = session.answers(inputs)["probabilities"].astype(np.float64)
    if len(learned.target.classes) == 2:
        start = np.log(said[:, 1] / said[:, 0]) - told[ATTRIBUTIONS].sum(axis=1)
        assert np.abs(start - start[0]).max() < 1e-4
    assert learned.report["attribution"]["error"] < 1e-5
    assert {one["field"]: one["moves"] is not None for one in learned.report["importance"]} == {
        one.name: True for one in plan.fields}
    # An absent text or series did nothing at all, and neither did what stands behind the last word or step.
    if kind != "digits":
        lengths = [None if one is None else len(one.split() if kind == "notes" else one)
                   for one in rows.column(field).to_pylist()]
        behind = np.arange(12) >= np.array([length or 0 for length in lengths])[:, None]
        assert not told[f"attributions:{field}"][behind].any()
    assert session.reasons(inputs.take(np.arange(0)))[ATTRIBUTIONS].shape == (0, len(plan.fields))


def test_they_come_near_to_all_orders() -> None:
    """Shapley's own formula over all subsets of seven parts, three of them numbers, of a network that mixes them."""
    spans = (Span("series", "vector", 0, 4, (4,)), *(Span(f"f{place}", "number", 4 + place, 1) for place in range(3)))
    layout, chance = Layout(spans), np.random.default_rng(3)
    torch.manual_seed(3)
    network = Stack((7, 16, 1), 0.0)
    network.eval()
    rows = chance.normal(size=(40, 7)).astype(np.float32)
    base, row = base_of(layout, rows), rows[0]
    pieces = pieces_of(layout, ("series", "f0", "f1", "f2"), (), 4)

    def score(subset: tuple[int, ...]) -> float:
        mixed = base.copy()
        mixed[list(subset)] = row[list(subset)]
        with torch.no_grad():
            return float(network(torch.from_numpy(mixed[None]))[0, 0])

    exact = np.zeros(7)
    for part in range(7):
        for count in range(7):
            share = math.factorial(count) * math.factorial(6 - count) / math.factorial(7)
            for subset in itertools.combinations([one for one in range(7) if one != part], count):
                exact[part] += share * (score((*subset, part)) - score(subset))
    how = shapley_of(network, pieces, base, 2000, 2.0, seed=1)
    found = how.by_torch(row[None]).mean(axis=1)[0]
    assert found == pytest.approx(2.0 * exact, abs=0.01)
    few = shapley_of(network, pieces, base, 4, 2.0, seed=1).by_torch(row[None]).mean(axis=1)[0]
    assert np.abs(few - 2.0 * exact).max() > 0.01
    assert few.sum() == pytest.approx(2.0 * exact.sum(), abs=1e-5)


def test_parts_lie_as_pixels_steps_and_words_do() -> None:
    spans = (Span("picture", "vector", 0, 5 * 6 * 3, (90,)), Span("walk", "sequence", 90, 14, (2, 7)),
             Span("note", "tokens", 104, 3, (3,), 9), Span("size", "number", 107, 1), Span("size", "missing", 108, 1))
    pieces = pieces_of(Layout(spans), ("picture", "walk", "note", "size"), (5, 6, 3), 4)
    assert pieces.grid == ((2, 2), (4,), (3,), ())
    assert pieces.count == 12
    picture = pieces.of[:90].reshape(5, 6, 3)
    assert (picture[:3, :3] == 0).all() and (picture[:3, 3:] == 1).all() and (picture[3:, 3:] == 3).all()
    assert pieces.of[90:104].tolist() == [4, 4, 5, 5, 6, 6, 7] * 2
    assert pieces.of[104:].tolist() == [8, 9, 10, 11, 11]
    rows = np.ones((3, 109), dtype=np.float32)
    assert not base_of(Layout(spans), rows)[90:107].any()
    assert base_of(Layout(spans), rows)[:90].all()


def test_only_rows_that_ask_are_explained() -> None:
    plan, rows = small("cnn", "walks")
    learned = explained(plan, rows)
    inputs = inputs_of(plan.fields, rows).take(np.arange(3))
    running = Session(learned.exported.data)
    whole = running.reasons(inputs)
    some = running._session.run(["attributions", "attributions:steps"], {
        **inputs.values, "_missing": inputs.missing, "_explain": np.array([False, True, False])})
    for told, expected in zip(some, whole.values(), strict=True):
        assert not told[[0, 2]].any()
        assert np.array_equal(told[1], expected[1])
    assert [one.name for one in learned.exported.outputs] == ["label", "probabilities", *whole]
    again = explained(plan, rows)
    assert again.exported.data == learned.exported.data


def test_the_card_says_how_and_how_nearly() -> None:
    plan, rows = small("lstm", "notes")
    learned = explained(plan, rows)
    text = opened(bundle(learned.report))["card.md"].decode()
    assert "Shapley values over 8 random orders, from the average training row, its series of free length" in text
    assert "leave a standard error of" in text
    plain = learn(plan, Given(rows), [])
    assert "ai.onnx::Loop" in learned.exported.operators
    assert "ai.onnx::Loop" not in plain.exported.operators
    assert learned.weights == plain.weights
    # The network's weights stand in the file once.
    assert len(learned.exported.data) < len(plain.exported.data) + 20_000


def test_a_file_that_explains_otherwise_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Shapley.by_torch
    monkeypatch.setattr(Shapley, "by_torch", lambda one, rows: real(one, rows) + 0.01)
    plan, rows = small("gru", "walks")
    with pytest.raises(RunFailed, match="does not explain held-out rows as the trained one"):
        explained(plan, rows)


def test_numbers_are_explained_in_their_own_units() -> None:
    plan, rows = shapes.walks("gru", 120, units=6, epochs=2)
    sums = [0.0 if one is None else 100.0 * sum(one) for one in rows.column("steps").to_pylist()]
    rows = rows.set_column(rows.column_names.index(LABEL), LABEL, pa.array(sums))
    plan = plan.model_copy(update={"task": "regression", "label_type": "float", "parameters": Parameters(
        units=6, epochs=2), "gate": plan.gate.model_copy(update={"metric": "r2"})})
    learned = explained(plan, rows)
    session, inputs = Session(learned.exported.data), inputs_of(plan.fields, rows)
    start = session.answers(inputs)["prediction"] - session.attributions(inputs).sum(axis=1)
    assert np.abs(start - start[0]).max() < 1e-4 * learned.target.std
    assert learned.report["attribution"]["unit"] == "units of the label"
