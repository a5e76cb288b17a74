"""Each transform against its definition or scikit-learn's, the same in the exported graph, and kept exactly."""

import json
import re
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from river.datasets import ImageSegments
from scipy.special import psi
from sklearn import datasets
from sklearn.decomposition import PCA, LatentDirichletAllocation, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import MinMaxScaler, RobustScaler

from lepton.contracts.modelling import transforms
from lepton.contracts.pipeline_blocks import FieldType, Outliers
from services.trainer.core.dataset import Target
from services.trainer.core.export import session
from services.trainer.core.export.graph import export
from services.trainer.core.failure import RunFailed
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import ARROW_TYPES, Inputs, inputs_of
from services.trainer.core.transforming.categories import TargetMeans, bucket_of
from services.trainer.core.transforming.fitting import fit, prepared_by
from services.trainer.core.transforming.numeric import Derived
from services.trainer.core.transforming.shaping import Shaping, signals_of
from services.trainer.core.transforming.topics import Topics, digamma
from tests.unit.trainer import samples

ROWS = 300
KINDS: dict[str, FieldType] = {"a": "float", "b": "float", "c": "int", "d": "bool", "kind": "category", "note": "text"}
ALL: tuple[transforms.Transform, ...] = (
    transforms.Scale(of=("a",), method="robust"), transforms.Scale(of=("c",), method="min_max"),
    transforms.QuantileBins(of=("a", "c"), bins=5), transforms.Pca(of=("a", "b", "c")),
    transforms.OneHot(of=("kind",), max_categories=3), transforms.Hashing(of=("kind",), buckets=4),
    transforms.TargetEncoding(of=("kind",)), transforms.Tfidf(of=("note",), components=2),
    transforms.Lda(of=("note",), topics=3))


@cache
def columns() -> dict[str, Any]:
    """Pieces of seven outdoor pictures (UCI, bundled with river): brightness, column, edges and what each is of.

    Beside each some words in a row of what scikit-learn says of its own data sets.
    """
    stream = ImageSegments()  # type: ignore[no-untyped-call]  # river has no types
    # Bins of equal size need numbers of which no two are equal.
    pieces = list({x["intensity-mean"]: (x, kind) for x, kind in stream}.values())
    pieces = [pieces[place] for place in np.linspace(0, len(pieces) - 1, ROWS).astype(int)]
    told = " ".join(load().DESCR for load in (datasets.load_wine, datasets.load_diabetes, datasets.load_iris,
                                              datasets.load_breast_cancer, datasets.load_linnerud))
    words = re.findall(r"(?<![\w.])(?:[A-Z]?[a-z]+|[A-Z]{2,})(?![\w-])[.,]?", told)
    words = [word for word in words if len(word.strip(".,")) > 1]
    size = len(words) // ROWS
    return {"a": np.array([x["intensity-mean"] for x, _ in pieces]),
            "b": np.array([x["value-mean"] for x, _ in pieces]),
            "c": np.array([int(x["region-centroid-col"]) for x, _ in pieces]),
            "d": np.array([x["short-line-density-5"] > 0 for x, _ in pieces]),
            "kind": np.array([kind for _, kind in pieces]),
            "note": [" ".join(words[place * size:(place + 1) * size]) for place in range(ROWS)]}


def table(gaps: bool) -> pa.Table:
    held = {}
    for place, (name, values) in enumerate(columns().items()):
        some = [None if gaps and number % 11 == place else value
                for number, value in enumerate(np.asarray(values).tolist())]
        held[name] = pa.array(some, ARROW_TYPES[KINDS[name]])
    return pa.table(held)


def inputs(*names: str, gaps: bool = False) -> Inputs:
    return inputs_of(samples.plan({name: KINDS[name] for name in names}).fields, table(gaps))


def prepared(names: tuple[str, ...], *wanted: transforms.Transform, gaps: bool = False,
             signals: Any = None) -> Preparation:
    shaping = Shaping(wanted, signals, None if signals is None else np.arange(ROWS))
    return fit(samples.plan({name: KINDS[name] for name in names}).fields, Outliers(), inputs(*names, gaps=gaps),
               shaping=shaping)


def labels() -> Any:
    """Classes 0 to 2, by the kind."""
    return np.unique(columns()["kind"], return_inverse=True)[1] % 3


@pytest.mark.parametrize(("method", "scaler"), [("min_max", MinMaxScaler()), ("robust", RobustScaler())])
def test_numbers_are_scaled_as_scikit_learn_scales_them(method: Any, scaler: Any) -> None:
    found = prepared(("a", "c"), transforms.Scale(of=("a", "c"), method=method)).transform(inputs("a", "c"))
    raw = np.stack([columns()["a"], columns()["c"]], axis=1)
    assert found == pytest.approx(scaler.fit_transform(raw), abs=1e-5)


def test_a_number_that_is_not_to_be_scaled_stays_as_it_is() -> None:
    found = prepared(("a", "b"), transforms.Scale(of=("a",), method="none")).transform(inputs("a", "b"))
    assert found[:, 0] == pytest.approx(columns()["a"], rel=1e-5)
    assert found[:, 1].std() == pytest.approx(1, rel=1e-5)


def test_bins_hold_as_many_rows_each_and_every_row_is_in_one() -> None:
    found = prepared(("a",), transforms.QuantileBins(of=("a",), bins=6)).transform(inputs("a"))
    assert found.shape == (ROWS, 6) and (found.sum(axis=1) == 1).all()
    assert set(found.sum(axis=0)) == {ROWS / 6}
    assert (np.diff(found.argmax(axis=1)[np.argsort(columns()["a"])]) >= 0).all()


def test_a_constant_number_has_one_bin() -> None:
    plan = samples.plan({"a": "float"})
    rows = inputs_of(plan.fields, pa.table({"a": [2.0] * 20}))
    shaping = Shaping((transforms.QuantileBins(of=("a",)), transforms.Scale(of=("a",), method="min_max"),
                       transforms.Pca(of=("a",), components=1)))
    found = fit(plan.fields, Outliers(), rows, shaping=shaping).transform(rows)
    assert found.shape == (20, 3) and np.isfinite(found).all()


def test_principal_components_are_those_of_scikit_learn() -> None:
    found = prepared(("a", "b", "c"), transforms.Pca(of=("a", "b", "c"))).transform(inputs("a", "b", "c"))
    raw = np.stack([columns()[name] for name in "abc"], axis=1)
    expected = PCA(2).fit_transform((raw - raw.mean(axis=0)) / raw.std(axis=0))
    assert np.abs(found) == pytest.approx(np.abs(expected), abs=1e-4)


def test_values_share_buckets_and_one_never_seen_has_a_column_of_its_own() -> None:
    part = prepared(("kind",), transforms.Hashing(of=("kind",), buckets=4))
    found = part.transform(inputs("kind"))
    assert [int(place) - 1 for place in found.argmax(axis=1)] == [bucket_of(one, 4) for one in columns()["kind"]]
    strange = inputs_of(samples.plan({"kind": "category"}).fields, pa.table({"kind": ["never", "sky"]}))
    assert part.transform(strange)[0].tolist() == [1, 0, 0, 0, 0]


def test_a_category_becomes_its_smoothed_mean_of_the_label() -> None:
    truth = labels() == 0
    signals = signals_of(truth.astype(int), Target("classification", "bool", ("false", "true")))
    found = prepared(("kind",), transforms.TargetEncoding(of=("kind",), smoothing=2), signals=signals).transform(
        inputs("kind"))[:, 0]
    for kind in set(columns()["kind"]):
        inside = columns()["kind"] == kind
        expected = (truth[inside].sum() + 2 * truth.mean()) / (inside.sum() + 2)
        assert found[inside] == pytest.approx(expected, rel=1e-5)


def test_rows_learnt_from_never_know_their_own_label() -> None:
    """Kinds that say nothing: a mean that includes the row's own label would tell it, and one that does not cannot."""
    chance = np.random.default_rng(1)
    plan, rows = samples.plan({"kind": "category"}), pa.table({"kind": [f"t{one // 2}" for one in range(400)]})
    truth = chance.integers(0, 2, 400)
    signals = signals_of(truth, Target("classification", "bool", ("false", "true")))
    some = inputs_of(plan.fields, rows)
    shaping = Shaping((transforms.TargetEncoding(of=("kind",), smoothing=0.1),), signals, np.arange(400))
    found = fit(plan.fields, Outliers(), some, shaping=shaping)
    leaking = np.corrcoef(found.transform(some)[:, 0], truth)[0, 1]
    honest = np.corrcoef(found.taught(some, signals)[:, 0], truth)[0, 1]
    assert leaking > 0.6 and honest < 0.15


def test_a_value_not_known_has_the_overall_mean_of_each_class() -> None:
    signals = signals_of(labels(), Target("classification", "category", ("x", "y", "z")))
    part = prepared(("kind",), transforms.TargetEncoding(of=("kind",)), signals=signals)
    strange = inputs_of(samples.plan({"kind": "category"}).fields, pa.table({"kind": ["never"]}))
    assert part.transform(strange)[0] == pytest.approx(signals.mean(axis=0), rel=1e-5)


def test_words_are_weighted_as_scikit_learn_weights_them() -> None:
    found = prepared(("note",), transforms.Tfidf(of=("note",))).transform(inputs("note"))
    part = prepared(("note",), transforms.Tfidf(of=("note",))).to_data()["parts"][0]["texts"][0]["text"]
    theirs = TfidfVectorizer(vocabulary=list(part["words"]))
    assert found == pytest.approx(theirs.fit_transform(columns()["note"]).toarray(), abs=1e-5)
    reduced = prepared(("note",), transforms.Tfidf(of=("note",), components=2)).transform(inputs("note"))
    svd = TruncatedSVD(2, algorithm="arpack", random_state=0).fit_transform(found.astype(np.float64))
    assert np.abs(reduced) == pytest.approx(np.abs(svd), abs=1e-4)


def test_topics_are_those_of_scikit_learn_with_as_many_steps_for_every_text() -> None:
    part = prepared(("note",), transforms.Lda(of=("note",), topics=4, steps=7))
    found = part.transform(inputs("note"))
    words = CountVectorizer(vocabulary=list(samples.part(part, Topics).texts[0].text.words))
    theirs = LatentDirichletAllocation(4, learning_method="online", max_doc_update_iter=7, mean_change_tol=0.0,
                                       random_state=20_261_121)
    counts = words.fit_transform(columns()["note"])
    assert found == pytest.approx(theirs.fit(counts).transform(counts), abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(ROWS), abs=1e-6)


def test_topics_tell_texts_apart_that_share_no_word() -> None:
    chance = np.random.default_rng(4)
    of = chance.integers(0, 2, 200)
    vocabulary = [["goal", "match", "team", "coach"], ["tax", "budget", "vote", "law"]]
    plan = samples.plan({"note": "text"})
    rows = inputs_of(plan.fields, pa.table({"note": [" ".join(chance.choice(vocabulary[one], 8)) for one in of]}))
    part = fit(plan.fields, Outliers(), rows, shaping=Shaping((transforms.Lda(of=("note",), topics=2),)))
    shares = part.transform(rows)
    assert (shares.max(axis=1) > 0.8).all()
    assert len(set(shares.argmax(axis=1) ^ of)) == 1
    unknown = inputs_of(plan.fields, pa.table({"note": ["nothing known", "", None]}))
    assert part.transform(unknown) == pytest.approx(np.full((3, 2), 0.5))


def test_the_digamma_of_topics_is_right_to_eight_digits() -> None:
    x = np.array([1 / 64, 0.1, 0.5, 1.0, 3.0, 100.0, 1e4])
    assert digamma(x) == pytest.approx(psi(x), rel=1e-8)


@pytest.mark.parametrize("wanted", [transforms.Tfidf(of=("note",)), transforms.Lda(of=("note",))])
def test_a_text_without_a_word_that_came_twice_fails_by_name(wanted: transforms.Transform) -> None:
    plan = samples.plan({"note": "text"})
    rows = inputs_of(plan.fields, pa.table({"note": ["one", "two", "three"]}))
    with pytest.raises(RunFailed, match="no word of `note` came twice") as raised:
        fit(plan.fields, Outliers(), rows, shaping=Shaping((wanted,)))
    assert raised.value.failure_class == "data"


@pytest.mark.parametrize("wanted", [*((one,) for one in ALL), ALL], ids=lambda wanted: "+".join(
    one.kind for one in wanted))
def test_the_graph_gives_the_same_columns_whatever_comes(wanted: tuple[transforms.Transform, ...]) -> None:
    signals = signals_of(labels(), Target("classification", "category", ("x", "y", "z")))
    part = prepared(tuple(KINDS), *wanted, gaps=True, signals=signals)
    again = prepared_by(json.loads(json.dumps(part.to_data())))
    rows = inputs(*KINDS, gaps=True)
    assert (again.transform(rows) == part.transform(rows)).all()
    # The scores are the prepared columns themselves.
    width = part.width
    network = samples.Layers([(np.eye(width), np.zeros(width))])
    running = session.Session(export(part, network, Target(
        "policy", "int", tuple(str(one) for one in range(width)))).data)
    for some in (rows, session.adversarial(part), rows.take(np.array([0]))):
        assert running.answers(some)["values"] == pytest.approx(part.transform(some), abs=1e-4, rel=1e-5)


def test_what_no_transform_names_stays_as_it_was() -> None:
    plain, some = prepared(tuple(KINDS)), prepared(tuple(KINDS), transforms.QuantileBins(of=("a",), bins=3))
    names = [(span.field, span.kind) for span in some.layout.spans]
    assert names == [("b", "number"), ("c", "number"), ("d", "number"), ("a", "bins"), ("kind", "choice"),
                     ("note", "choice")]
    assert plain.statistics == some.statistics
    assert samples.part(some, Derived).numbers.names == ["a", "b", "c", "d"]
    assert not any(isinstance(part, TargetMeans) for part in some.parts)
