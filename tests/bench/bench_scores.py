"""Our families beside ten of scikit-learn's models: repeated stratified cross-validation on the sets bundled with it.

    python -m tests.bench scores auto
    python -m tests.bench.bench_scores [--folds 10] [--repeats 5] [--only wine,digits] [--ours]
    python -m tests.bench.bench_scores --search 300 [--only wine]      what `auto` finds in so many seconds
    python -m tests.bench.bench_scores --search 300 --folded           ... and that over the folds (`auto` above)

Ours go the whole way of a run: `learn` with `model.evaluate.folds`, so each fold's figure is of the exported file. A
tenth of the rows learnt from tells ours when to stop; scikit-learn's models learn from all of them. Both get the very
same folds. A set is reached when the best of ours is at most one standard error below the best of theirs, over all
folds; of digits `cnn` alone counts. Scikit-learn's parameters are its own; ours were set once, looking at folds of
other seeds of breast cancer and digits, and are the same for the three sets of plain columns.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn import datasets, ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from examples import alone
from lepton.contracts import pipeline
from lepton.contracts.features import EVENT_ID
from lepton.contracts.pipeline import Pipeline
from services.trainer.core.dataset import LABEL
from services.trainer.core.judging.folds import by_chance
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan
from services.trainer.core.searching.search import Notes
from services.trainer.core.searching.trials import searched as searched_plan
from tests.bench import results

Array = npt.NDArray[Any]
DIGITS_AT_LEAST = 0.985


@dataclass(frozen=True, slots=True)
class Set:
    """A data set with ours that are measured on it: a name, and the `model` block."""

    load: Callable[[], Any]
    label: str
    metric: str
    ours: dict[str, str]
    image: bool = False


_LINEAR = "epochs: 60, learning_rate: 0.02, l2: 0.002, patience: 60"
SETS = {
    "breast_cancer": Set(datasets.load_breast_cancer, "int, task: classification", "accuracy", {
        "logistic_regression": f"{{family: logistic_regression, parameters: {{{_LINEAR}}}}}",
        "mlp": "{family: mlp, parameters: {learning_rate: 0.005}}"}),
    "wine": Set(datasets.load_wine, "int, task: classification", "accuracy", {
        "logistic_regression": f"{{family: logistic_regression, parameters: {{{_LINEAR}}}}}",
        "mlp": "{family: mlp, parameters: {learning_rate: 0.005}}"}),
    "diabetes": Set(datasets.load_diabetes, "float", "r2", {
        "linear_regression": f"{{family: linear_regression, parameters: {{{_LINEAR}}}}}",
        "mlp": "{family: mlp, parameters: {learning_rate: 0.005}}"}),
    "digits": Set(datasets.load_digits, "int, task: classification", "accuracy", {
        "cnn": "{family: cnn, parameters: {image: [8, 8], channels: [32, 64], epochs: 30, learning_rate: 0.005}}"},
        image=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(SETS), help="sets, with commas between")
    parser.add_argument("--ours", action="store_true", help="leave scikit-learn's models out")
    parser.add_argument("--search", type=float, default=0.0, help="seconds `auto` has for a set, instead of the folds")
    parser.add_argument("--folded", action="store_true", help="with --search: what was found over all folds too")
    given = parser.parse_args()
    for name in given.only.split(","):
        print(f"{name} ({results.machine()})", flush=True)
        found = searched(name, given) if given.search else compared(name, given)
        results.write(f"{'auto' if given.search else 'scores'}_{name}", {"machine": results.machine(), **found})


def compared(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of each model over all folds, told as they come."""
    one, folds = SETS[name], given.folds
    ours = {family: told(family, given.repeats, partial(cross_validated, name, model, folds))
            for family, model in one.ours.items()}
    theirs = {} if given.ours else {peer: told(f"scikit-learn {peer}", given.repeats,
                                               partial(peers_folds, name, build, folds))
                                    for peer, build in peers(name).items()}
    best = max(ours, key=lambda family: statistics.fmean(ours[family]))
    mean = statistics.fmean(ours[best])
    said = {"folds": given.folds, "repeats": given.repeats, "metric": one.metric, "best": best,
            "ours": {family: figures(values) for family, values in ours.items()},
            "scikit_learn": {peer: figures(values) for peer, values in theirs.items()}}
    if theirs:
        peer = max(theirs, key=lambda other: statistics.fmean(theirs[other]))
        bar = statistics.fmean(theirs[peer]) - error_of(theirs[peer])
        print(f"  {best} {mean:.4f}, {peer} less its standard error {bar:.4f}: "
              f"{'reached' if mean >= bar else 'MISSED'}")
    if name == "digits":
        print(f"  cnn {mean:.4f}, aim {DIGITS_AT_LEAST}: {'reached' if mean >= DIGITS_AT_LEAST else 'MISSED'}")
    return said


def told(name: str, repeats: int, measure: Callable[[int], list[float]]) -> list[float]:
    """Figures of all folds, each repeat with other ones."""
    began = time.process_time()
    values = [value for seed in range(repeats) for value in measure(seed)]
    print(f"  {name}: {statistics.fmean(values):.4f} (standard error {error_of(values):.4f}), "
          f"{time.process_time() - began:.0f} s", flush=True)
    return values


def figures(values: list[float]) -> dict[str, Any]:
    return {"mean": statistics.fmean(values), "standard_error": error_of(values), "folds": values}


def error_of(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def cross_validated(name: str, model: str, folds: int, seed: int) -> list[float]:
    """The metric of the file of each fold of a real run. Raises RunFailed, or ValueError where a fold was left out."""
    of, rows = spec_of(name, model, f"evaluate: {{folds: {folds}}}")
    return values_of(name, alone.plan(of, seed), rows, folds)


def values_of(name: str, plan: Plan, rows: pa.Table, folds: int) -> list[float]:
    learned = learn(plan, Given(rows), [])
    values = [float(one[SETS[name].metric]) for one in learned.report["folds"]["folds"]]
    if len(values) != folds:
        raise ValueError(f"{len(values)} of {folds} folds of {name}: {learned.warnings}")
    return values


def searched(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """What the family `auto` takes within the time, and its score on rows that neither trials nor learning had.

    An image is to it a field that says its size. Over the folds what it took is learnt
    anew in each; of the choice itself they are not independent, since it was made on the same rows.
    """
    one = SETS[name]
    of, rows = spec_of(name, f"{{family: auto, search: {{trials: 200, seconds: {given.search}}}}}")
    began = time.monotonic()
    plan = alone.plan(of, 0).model_copy(update={"rows": rows.num_rows})
    taken = searched_plan(plan, rows, Notes(None, lambda _: None, lambda *_: None, time.monotonic))
    learned = learn(taken, Given(rows), [])
    took, score, account = time.monotonic() - began, learned.metrics[one.metric], json.loads(taken.found)
    print(f"  auto takes {taken.family} {taken.parameters.model_dump(exclude_defaults=True, mode='json')}\n"
          f"  {one.metric} {score:.4f} on {learned.held_out_rows} held-out rows, {took:.0f} s in all", flush=True)
    print(f"  {account.get('explanation', '')}", flush=True)
    values = told(f"{taken.family} over {given.repeats} times {given.folds} folds", given.repeats,
                  partial(folded, name, taken, given.folds)) if given.folded else []
    return {"family": taken.family, "metric": one.metric, "score": score, "seconds": took, "account": account,
            **({"folded": figures(values)} if values else {})}


def folded(name: str, taken: Plan, folds: int, seed: int) -> list[float]:
    """As `cross_validated`, of what `auto` took."""
    of, rows = spec_of(name, f"{{family: {taken.family}}}", f"evaluate: {{folds: {folds}}}")
    plan = alone.plan(of, seed).model_copy(update={
        "parameters": taken.parameters.model_copy(update={"seed": seed}), "transforms": taken.transforms})
    return values_of(name, plan, rows, folds)


def spec_of(name: str, model: str, more: str = "") -> tuple[Pipeline, pa.Table]:
    """The Pipeline and the rows as they lie in the store; an image is one field."""
    one, data = SETS[name], SETS[name].load()
    image = one.image
    width = data.data.shape[1]
    fields = (f"    pixels: {{type: vector, dims: {width}, image: [8, 8]}}\n" if image else
              "".join(f"    x{place}: {{type: float}}\n" for place in range(width)))
    block = model.strip()[1:-1] + (f", {more}" if more else "")
    of = pipeline.parse(
        f"apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {{name: {name.replace('_', '-')}}}\nevents:\n"
        f"  fields:\n{fields}  label: {{field: truth, type: {one.label}}}\n"
        f"model: {{{block}}}\ngate: {{metric: {one.metric}, held_out: 0.2}}\n")
    columns = ({"pixels": pa.array(list(data.data.astype(np.float32)), pa.list_(pa.float32()))} if image else
               {f"x{place}": data.data[:, place] for place in range(width)})
    return of, pa.table({EVENT_ID: [f"{name}-{place:05d}" for place in range(len(data.target))], **columns,
                         LABEL: data.target})


def peers(name: str) -> dict[str, Callable[[], Any]]:
    """Ten, as scikit-learn sets them; scaled where distance or step length matters."""
    scaler = MinMaxScaler if SETS[name].image else StandardScaler

    def scaled(model: Any) -> Any:
        return make_pipeline(scaler(), model)

    if SETS[name].metric == "accuracy":
        return {
            "logistic regression": lambda: scaled(linear_model.LogisticRegression(max_iter=5000)),
            "k nearest neighbours": lambda: scaled(neighbors.KNeighborsClassifier()),
            "support vectors": lambda: scaled(svm.SVC()),
            "decision tree": lambda: tree.DecisionTreeClassifier(random_state=0),
            "random forest": lambda: ensemble.RandomForestClassifier(random_state=0),
            "extra trees": lambda: ensemble.ExtraTreesClassifier(random_state=0),
            "gradient boosting": lambda: ensemble.GradientBoostingClassifier(random_state=0),
            "histogram gradient boosting": lambda: ensemble.HistGradientBoostingClassifier(random_state=0),
            "naive Bayes": naive_bayes.GaussianNB,
            "multi-layer perceptron": lambda: scaled(neural_network.MLPClassifier(max_iter=1000, random_state=0))}

    def both_scaled(model: Any) -> Any:
        return TransformedTargetRegressor(scaled(model), transformer=StandardScaler())

    return {
        "ridge regression": lambda: scaled(linear_model.Ridge()),
        "k nearest neighbours": lambda: scaled(neighbors.KNeighborsRegressor()),
        "support vectors": lambda: both_scaled(svm.SVR()),
        "decision tree": lambda: tree.DecisionTreeRegressor(random_state=0),
        "random forest": lambda: ensemble.RandomForestRegressor(random_state=0),
        "extra trees": lambda: ensemble.ExtraTreesRegressor(random_state=0),
        "gradient boosting": lambda: ensemble.GradientBoostingRegressor(random_state=0),
        "histogram gradient boosting": lambda: ensemble.HistGradientBoostingRegressor(random_state=0),
        "Bayesian ridge": lambda: scaled(linear_model.BayesianRidge()),
        "multi-layer perceptron": lambda: both_scaled(neural_network.MLPRegressor(early_stopping=True, random_state=0))}


def peers_folds(name: str, build: Callable[[], Any], folds: int, seed: int) -> list[float]:
    """Accuracy or R2 of each of the folds that ours had with the same seed."""
    data = SETS[name].load()
    return [float(build().fit(data.data[~part.held_out], data.target[~part.held_out])
                  .score(data.data[part.held_out], data.target[part.held_out]))
            for part in by_chance(data.target, folds, seed)]


if __name__ == "__main__":
    main()
