"""Which changes of training rows (`augment`, `adversarial` of `model.train`) a Pipeline's fields have a use for."""

from collections.abc import Iterator

from lepton.contracts.modelling.families import FAMILIES, SHAPED
from lepton.contracts.modelling.training_blocks import Adversarial, Augment
from lepton.contracts.pipeline_blocks import LISTS, NUMERIC, Events, Features

Finding = tuple[tuple[int | str, ...], str, str]
"""Path in the Pipeline, message, remedy."""


def check_disturbances(events: Events, features: Features | None, family: str, augment: Augment | None,
                       adversarial: Adversarial | None, about: tuple[str, tuple[int, ...] | None]) -> Iterator[Finding]:
    """Everything wrong with them. `about`: what stands beside them in the model block, and the size of its images."""
    (beside, image), path = about, ("model", "train")
    given = [name for name, one in (("augment", augment), ("adversarial", adversarial)) if one is not None]
    for name in given:
        if FAMILIES[family].own_task is not None:
            yield (*path, name), f"{family} learns from rows as they are", "remove it, or use mlp"
        if beside == "model.train.stream":
            yield (*path, name), "a stream learns from rows as they are", "remove it, or model.train.stream"
    label = events.label.field if events.label is not None else None
    types = {spec.type for name, spec in events.fields.items() if spec.input and name != label}
    numbers = bool(types & {*NUMERIC, *LISTS}) or (features is not None and any(one.input for one in features.windows))
    if adversarial is not None and not numbers:
        yield (*path, "adversarial"), "there is no number to move", "remove it"
    if augment is None:
        return
    if augment.noise and not numbers:
        yield (*path, "augment", "noise"), "there is no number to add it to", "remove it"
    if augment.drop_words and not ("text" in types and family in SHAPED):
        yield (*path, "augment", "drop_words"), f"{family} reads no text word by word", (
            f"remove it, or use {' or '.join(sorted(SHAPED))} with a text")
    for name in ("shift", "flip"):
        if getattr(augment, name) and not image:
            yield (*path, "augment", name), "there are no images", "remove it, or say their size: parameters.image"
