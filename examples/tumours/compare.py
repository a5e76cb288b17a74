"""Learns to tell malignant tumours as the trainer has it learn, and tells how good that is and why one was told so.

    python -m examples.tumours.compare [--card card.zip]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn import metrics

from examples import alone
from examples.tumours.data import LEARNT_FROM, tumours
from services.trainer.core.learning import Given, learn
from services.trainer.core.telling.card import bundle

SHOWN = 5
"""Measures named of the tumour that is explained."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", type=Path, help="where to write the model's card")
    given = parser.parse_args()
    of, rows = alone.spec("tumours"), tumours()
    learned = learn(alone.plan(of), Given(alone.table(of, rows[:LEARNT_FROM])), [])
    print(f"held out, {learned.held_out_rows} of {LEARNT_FROM}:")
    for name in ("accuracy", "baseline_accuracy", "roc_auc", "brier", "calibration_error"):
        print(f"  {name:18s} {learned.metrics[name]:.3f}")
    print(f"  learnt anew in five folds: area {learned.metrics['folds_roc_auc']:.3f}, "
          f"standard error {learned.metrics['folds_roc_auc_error']:.3f}")
    unseen = rows[LEARNT_FROM:]
    said, true = alone.answers(of, learned.exported.data, unseen), np.array([row["malignant"] for row in unseen])
    chance = said["probabilities"][:, 1]
    missed, alarmed = int((true & ~said["label"]).sum()), int((~true & said["label"]).sum())
    print(f"never seen, {len(unseen)}: accuracy {(said['label'] == true).mean():.3f}, "
          f"area {metrics.roc_auc_score(true, chance):.3f}, {missed} of {true.sum()} malignant missed, "
          f"{alarmed} of {(~true).sum()} benign called malignant")
    which = int(np.flatnonzero(true)[0])
    asked = unseen[which]
    print(f"{asked['event_id']}, malignant: told so with probability {chance[which]:.3f}, since (log odds)")
    for name, effect in alone.attributions(of, learned.exported.data, asked)[:SHOWN]:
        print(f"  {name:26s} {asked[name]:9.4g}   {effect:+.2f}")
    if given.card:
        given.card.write_bytes(bundle(learned.report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
