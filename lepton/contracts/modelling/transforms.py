"""The `features` block with its transforms: how inputs of a model become columns, and which fields each kind takes."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from lepton.contracts import pipeline_blocks
from lepton.contracts.pipeline_blocks import NUMERIC, Block, Events, FieldSpec, Member, task_of

Finding = tuple[tuple[int | str, ...], str, str]
"""Path in the Pipeline, message, remedy."""

Scale = Literal["standard", "min_max", "robust", "max_abs", "none"]
Terms = Annotated[int, Field(ge=1, le=10_000)]
MinRows = Annotated[int, Field(ge=1, le=1_000_000)]
MaxWords = Annotated[int, Field(ge=1, le=4096)]
_CHOICES, _NUMBERS = frozenset({"category", "text"}), frozenset({*NUMERIC, "bool"})


class _Transform(Block):
    of: Annotated[tuple[Member, ...], Field(strict=False, min_length=1, max_length=256)]
    """Fields or window columns it is made for, each by itself; `pca` takes them together."""


class ScaleNumbers(_Transform):
    """Numbers by (value - center) / scale, both from the training rows."""

    kind: Literal["scale"] = "scale"
    method: Scale = "standard"
    """By mean and standard deviation; by the range (to 0..1); by median and interquartile range; by the largest
    absolute value; not at all."""


class OneHot(_Transform):
    """A column a value, and one for all others."""

    kind: Literal["one_hot"] = "one_hot"
    max_categories: Annotated[int, Field(ge=1, le=10_000)] = 64
    min_rows: MinRows = 2
    """A value seen in fewer training rows gets no column."""


class Hashing(_Transform):
    """A column a bucket, never seen values included: a category by its value, a text by its words."""

    kind: Literal["hashing"] = "hashing"
    buckets: Annotated[int, Field(ge=2, le=4096)] = 64
    max_words: MaxWords = 256


class TargetEncoding(_Transform):
    """The label's mean among training rows with this value: a number, or one a class."""

    kind: Literal["target_encoding"] = "target_encoding"
    smoothing: Annotated[float, Field(gt=0, le=1_000_000)] = 10.0
    """As many rows of the overall mean are mixed in."""


class Tfidf(_Transform):
    """Words by how often they are in the text and how rare they are elsewhere, each text of length 1."""

    kind: Literal["tfidf"] = "tfidf"
    max_terms: Terms = 1000
    min_rows: MinRows = 2
    """A term in fewer training texts gets no column."""
    ngrams: Annotated[int, Field(ge=1, le=3)] = 1
    """Terms are up to so many words in a row."""
    components: Annotated[int | None, Field(ge=1, le=512)] = None
    """Only so many directions along which texts differ most (truncated SVD)."""
    max_words: MaxWords = 256
    """Words of a text beyond these are not looked at."""


class Topics(_Transform):
    """Shares of topics in a text: latent Dirichlet allocation."""

    kind: Literal["topics"] = "topics"
    topics: Annotated[int, Field(ge=2, le=100)] = 10
    max_terms: Terms = 1000
    min_rows: MinRows = 2
    max_words: MaxWords = 256


class Pca(_Transform):
    """Numbers, standardised, along the directions in which they vary most."""

    kind: Literal["pca"] = "pca"
    components: Annotated[int, Field(ge=1, le=256)] = 2
    whiten: bool = False
    """Each direction with standard deviation 1."""


Transform = Annotated[ScaleNumbers | OneHot | Hashing | TargetEncoding | Tfidf | Topics | Pca,
                      Field(discriminator="kind")]
_TAKES: dict[str, frozenset[str]] = {
    "scale": _NUMBERS, "one_hot": _CHOICES, "hashing": _CHOICES, "target_encoding": _CHOICES,
    "tfidf": frozenset({"text"}), "topics": frozenset({"text"}), "pca": _NUMBERS}


class Features(pipeline_blocks.Features):
    transforms: Annotated[tuple[Transform, ...], Field(strict=False, max_length=64)] = ()
    """A field named by none is standardised where it is a number, and one-hot where it is a category or text; one
    named by several has the columns of each."""


def check_transforms(events: Events | None, features: Features | None) -> Iterator[Finding]:
    """Everything wrong with the transforms, against the fields and windows that could be read."""
    if events is None or features is None:
        return
    label = events.label.field if events.label is not None else None
    inputs = {name: spec for name, spec in events.fields.items() if name != label}
    inputs |= {column: FieldSpec(type="float", input=window.input) for window in features.windows
               for column in window.columns}
    named: set[tuple[str, str]] = set()
    for number, transform in enumerate(features.transforms):
        path = ("features", "transforms", number)
        if transform.kind == "target_encoding" and task_of(events) is None:
            yield (*path, "kind"), "there is no label to take means of", "add events.label, or use one_hot"
        for place, name in enumerate(transform.of):
            spec = inputs.get(name)
            if spec is None:
                yield (*path, "of", place), f"`{name}` is no field or window column a model could take", (
                    f"name one of {', '.join(inputs)}" if len(inputs) <= 10 else "name one of events.fields")
            elif not spec.input:
                yield (*path, "of", place), f"`{name}` is no input of the model", "remove it, or its `input: false`"
            elif spec.type not in _TAKES[transform.kind]:
                yield (*path, "of", place), f"{transform.kind} takes no {spec.type}", (
                    f"it is for {' and '.join(sorted(_TAKES[transform.kind]))}; for a {spec.type} use "
                    f"{' or '.join(kind for kind, types in _TAKES.items() if spec.type in types) or 'none'}")
            elif (transform.kind, name) in named:
                yield (*path, "of", place), f"`{name}` has a {transform.kind} already", "remove one of them"
            named.add((transform.kind, name))
        if transform.kind == "pca" and transform.components > len(transform.of):
            yield (*path, "components"), "there are no more components than numbers", (
                f"ask for at most {len(transform.of)}, or name more numbers")
