"""What each user liked, and how far up the lists of a file the likings stand that it has not learnt from."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from services.trainer.core.dataset import LABEL, Target
from services.trainer.core.export.session import Session
from services.trainer.core.failure import bad_data, bad_parameter
from services.trainer.core.lessons.lesson import Array, Lesson
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs

MAX_ITEMS = 10_000
"""Each is a class of its own, and lies in the file."""
NOT_LIKED, UNLISTED = -2, -1


class Ranking(Lesson):
    """`truth`: the number of the item that was liked; UNLISTED for one outside the catalogue; NOT_LIKED.

    Only likings teach: the network learns which item of the whole catalogue it was. A held-out liking of an item that
    is not in the catalogue is measured, and missed.
    """

    def target(self, rows: pa.Table, training: Array) -> Target:
        item, kind = self._items(rows)
        counted = Counter(item[self._liked(rows, item) & training].tolist())
        classes = self.plan.label_categories or tuple(sorted(counted, key=lambda name: (-counted[name], name)))
        if len(classes) > MAX_ITEMS:
            raise bad_data(f"{len(classes)} items were liked, more than {MAX_ITEMS}",
                           "recommend groups of items, or those of the newest rows (window_rows)")
        return Target("ranking", kind, classes, top_k=min(self.plan.parameters.top_k, len(classes)))

    def truth(self, rows: pa.Table, inputs: Inputs, target: Target) -> Array:
        item, _ = self._items(rows)
        places = {name: place for place, name in enumerate(target.classes)}
        found = np.array([places.get(name, UNLISTED) for name in item.tolist()], dtype=np.int64)
        return np.where(self._liked(rows, item), found, NOT_LIKED)

    def check_known(self, target: Target, truth: Array, training: Array) -> None:
        """Items a parent does not list are missed until a fresh start, and counted in `unlisted_share`."""

    def teaches(self, truth: Array, training: Array) -> Array:
        found: Array = (truth >= 0) | ((truth == UNLISTED) & ~training)
        return found

    def check(self, target: Target, training_truth: Array) -> None:
        if len(target.classes) < 2 or len(set(training_truth.tolist())) < 2:
            raise bad_data("fewer than two items were liked in the training rows",
                           "send likings of more items, or lower model.roles.liked_from")

    def tensor(self, truth: Array, preparation: Preparation, target: Target) -> torch.Tensor:
        return torch.from_numpy(truth)

    def measure(self, running: Session, held: Inputs, truth: Array, target: Target,
                classes: Sequence[str] = ()) -> dict[str, float]:
        listed = running.answers(held)["items"].astype(str).astype(object)[:, :target.top_k]
        wanted = np.array([*target.classes, None], dtype=object)[truth]
        found = _figures(listed == wanted[:, None])
        return found | {"coverage": len(set(listed.ravel().tolist())) / len(target.classes),
                        "unlisted_share": float((truth == UNLISTED).mean())}

    def baseline(self, training: tuple[Inputs, Array], held: tuple[Inputs, Array], preparation: Preparation,
                 target: Target) -> dict[str, float]:
        """The same list for everybody: what was liked most often."""
        counts = np.bincount(training[1], minlength=len(target.classes))
        listed = np.argsort(-counts, kind="stable")[:target.top_k]
        found = _figures(listed[None, :] == held[1][:, None]) | {"coverage": target.top_k / len(target.classes)}
        return {f"baseline_{name}": value for name, value in found.items()}

    def _items(self, rows: pa.Table) -> tuple[Array, str]:
        """Each row's item as text, None where there is none; and the type answers have."""
        name = self.plan.roles.item
        if name is None or name not in rows.column_names:
            raise bad_parameter("no field says what was liked", "name it as model.roles.item")
        column = rows.column(name)
        return (np.array(column.cast(pa.string()).to_pylist(), dtype=object),
                "int" if pa.types.is_integer(column.type) else "category")

    def _liked(self, rows: pa.Table, item: Array) -> Array:
        named: Array = item != None  # noqa: E711  element by element
        labels = rows.column(LABEL)
        if self.plan.label_type is None:
            return named
        at = self.plan.roles.liked_from
        if (at is None) != pa.types.is_boolean(labels.type):
            raise bad_parameter(f"the label is {labels.type}, and does not say what was liked",
                                "label with true or false, or with numbers and model.roles.liked_from")
        liked = labels if at is None else pc.greater_equal(labels.cast(pa.float64()), at)
        both: Array = named & np.asarray(pc.fill_null(liked, False).to_numpy(), dtype=bool)
        return both


def _figures(hits: Array) -> dict[str, float]:
    """Of lists [rows, k] that hold what was wanted where True: one liking a row, so the best gain is 1 (Järvelin and
    Kekäläinen 2002); the reciprocal rank is 0 for what is not in the list."""
    place, found = hits.argmax(axis=1), hits.any(axis=1)
    return {"ndcg": float(np.where(found, 1 / np.log2(place + 2), 0.0).mean()),
            "hit_rate": float(found.mean()), "mrr": float(np.where(found, 1 / (place + 1), 0.0).mean())}
