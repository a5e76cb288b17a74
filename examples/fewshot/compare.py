"""Learns to tell tumours from a few examples of each, once from nothing and once from another clinic's model.

The large clinic has thirty measures of each of 285 tumours. The small one takes twenty of them, and knows of a few
tumours what they were; it is tried on the others, which neither model has seen. Both learn as the trainer has them
learn, without a platform around.

    python -m examples.fewshot.compare
"""

import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from examples.alone import plan as plan_of
from examples.fewshot.data import LARGE, SHOTS, Places, spec, split, tumours
from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling.blocks import Transfer
from lepton.contracts.pipeline import Pipeline
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import Rival
from services.trainer.core.preparing.rows import inputs_of

SEEDS = (1, 2, 3, 4, 5)
"""Each shows other tumours, and begins with other first weights."""


def taught() -> Learned:
    """The large clinic's model."""
    large = spec("teacher")
    return learn(plan_of(large, 7), Given(_rows(large, tumours()[2][:LARGE])), [])


def accuracy(shots: int, seed: int, teacher: Learned | None, transfer: Transfer | None = None) -> float:
    """Of the small clinic's model on its other tumours; without a teacher it learns from nothing.

    `transfer` is how it goes on from the teacher; without, as its Pipeline says.
    """
    small = spec("pupil")
    shown, others = split(shots, seed)
    plan = plan_of(small, seed)
    if teacher is not None:
        wanted = transfer or (small.model.transfer if small.model is not None else None)
        plan = plan.model_copy(update={"parent": Rival(version=1, model="large-clinic"), "transfer": wanted})
    learned = learn(plan, Given(_rows(small, shown), parent=teacher.weights if teacher is not None else None), [])
    said = Session(learned.exported.data).answers(inputs_of(plan.fields, _rows(small, others)))["label"]
    return float((said == tumours()[1][others]).mean())


def _rows(of: Pipeline, which: Sequence[int] | Places) -> pa.Table:
    measures, malignant, _ = tumours()
    return pa.table({EVENT_ID: [f"tumour-{place:03d}" for place in which],
                     **{name: pa.array(measures[name][which]) for name in of.inputs},
                     LABEL: pa.array(malignant[which])})


def main() -> int:
    teacher = taught()
    print(f"the large clinic's model: {teacher.metrics['accuracy']:.3f} of {teacher.held_out_rows} held-out tumours")
    print(f"the small clinic's, mean and range of {len(SEEDS)} seeds:")
    for shots in SHOTS:
        for how, teaching in (("from nothing", None), ("from the teacher", teacher)):
            found = [accuracy(shots, seed, teaching) for seed in SEEDS]
            print(f"  {shots:2d} of each, {how:17s} {np.mean(found):.3f}  ({min(found):.3f} to {max(found):.3f})",
                  flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
