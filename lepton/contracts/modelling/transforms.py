"""The `features` block with its transforms: how inputs of a model become columns, and which fields each kind takes."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from lepton.contracts import pipeline_blocks
from lepton.contracts.modelling.families import FAMILIES, SHAPED
from lepton.contracts.pipeline_blocks import NUMERIC, Block, Events, FieldSpec, Member

Finding = tuple[tuple[int | str, ...], str, str]
"""Path in the Pipeline, message, remedy."""

Scaling = Literal["standard", "min_max", "robust", "none"]
MinRows = Annotated[int, Field(ge=1, le=1_000_000)]
_NUMBERS, _CATEGORIES, _TEXTS = frozenset({*NUMERIC, "bool"}), frozenset({"category"}), frozenset({"text"})


class _Transform(Block):
    of: Annotated[tuple[Member, ...], Field(strict=False, min_length=1, max_length=256)]
    """Fields or window columns it is made for, each by itself; `pca` takes them together."""


class Scale(_Transform):
    """Numbers by (value - center) / scale, both from the training rows."""

    kind: Literal["scale"] = "scale"
    method: Scaling = "standard"
    """By mean and standard deviation; by the range (to 0..1); by median and interquartile range; not at all."""


class QuantileBins(_Transform):
    """A column a bin; about as many training rows in each."""

    kind: Literal["quantile_bins"] = "quantile_bins"
    bins: Annotated[int, Field(ge=2, le=256)] = 10


class Pca(_Transform):
    """Numbers, standardised, along the directions in which they vary most."""

    kind: Literal["pca"] = "pca"
    components: Annotated[int, Field(ge=1, le=256)] = 2


class OneHot(_Transform):
    """A column a value, and one for all others."""

    kind: Literal["one_hot"] = "one_hot"
    max_categories: Annotated[int, Field(ge=1, le=10_000)] = 64
    min_rows: MinRows = 2
    """A value seen in fewer training rows gets no column."""


class Hashing(_Transform):
    """A column a bucket for the values of the training rows, and one for all others."""

    kind: Literal["hashing"] = "hashing"
    buckets: Annotated[int, Field(ge=2, le=4096)] = 64
    min_rows: MinRows = 2


class TargetEncoding(_Transform):
    """The label's mean among training rows with this value: a number, or one a class."""

    kind: Literal["target_encoding"] = "target_encoding"
    smoothing: Annotated[float, Field(gt=0, le=1_000_000)] = 10.0
    """As many rows of the overall mean are mixed in."""
    min_rows: MinRows = 2


class Tfidf(_Transform):
    """Words by how often they are in the text and how rare they are elsewhere, each text of length 1."""

    kind: Literal["tfidf"] = "tfidf"
    max_terms: Annotated[int, Field(ge=1, le=10_000)] = 1000
    max_words: Annotated[int, Field(ge=1, le=4096)] = 256
    """Words of a text beyond these are not looked at."""
    components: Annotated[int | None, Field(ge=1, le=512)] = None
    """Only so many directions along which texts differ most (truncated SVD)."""


class Lda(_Transform):
    """A text's shares of topics: words that come together (latent Dirichlet allocation)."""

    kind: Literal["lda"] = "lda"
    topics: Annotated[int, Field(ge=2, le=64)] = 10
    max_terms: Annotated[int, Field(ge=1, le=10_000)] = 1000
    max_words: Annotated[int, Field(ge=1, le=4096)] = 256
    steps: Annotated[int, Field(ge=1, le=100)] = 20
    """Of the inference, for every text: more come nearer to where it would end, and take longer."""


Transform = Annotated[Scale | QuantileBins | Pca | OneHot | Hashing | TargetEncoding | Tfidf | Lda,
                      Field(discriminator="kind")]
_TAKES: dict[str, frozenset[str]] = {
    "scale": _NUMBERS, "quantile_bins": _NUMBERS, "pca": _NUMBERS, "one_hot": _CATEGORIES, "hashing": _CATEGORIES,
    "target_encoding": _CATEGORIES, "tfidf": _TEXTS, "lda": _TEXTS}
_ONCE = frozenset({"scale", "one_hot", "hashing", "target_encoding", "tfidf", "lda", "quantile_bins"})


class Features(pipeline_blocks.Features):
    transforms: Annotated[tuple[Transform, ...], Field(strict=False, max_length=64)] = ()
    """A field named by none is standardised where it is a number, and one-hot where it is a category or text; one
    named by several has the columns of each."""


def check_transforms(events: Events | None, features: Features | None, family: str | None, goes_on: str,
                     explained: bool) -> Iterator[Finding]:
    """Everything wrong with the transforms, against the fields and windows that could be read.

    `goes_on` names a key of the model block that no transform can stand beside; empty where there is none.
    """
    if events is None or features is None or not features.transforms:
        return
    if family is not None and FAMILIES[family].own_task is not None:
        yield ("features", "transforms"), f"{family} takes its fields as they are", "remove them, or use mlp"
    if goes_on:
        yield ("features", "transforms"), f"they cannot stand beside {goes_on}", f"remove them, or {goes_on}"
    label = events.label.field if events.label is not None else None
    inputs = {name: spec for name, spec in events.fields.items() if name != label}
    inputs |= {column: FieldSpec(type="float", input=window.input) for window in features.windows
               for column in window.columns}
    named: set[tuple[str, str]] = set()
    for number, transform in enumerate(features.transforms):
        path = ("features", "transforms", number)
        for place, name in enumerate(transform.of):
            again = (transform.kind, name) in named or name in transform.of[:place]
            for message, remedy in _wrong(transform, name, inputs, family, again):
                yield (*path, "of", place), message, remedy
        named |= {(transform.kind, name) for name in transform.of if transform.kind in _ONCE}
        if transform.kind == "pca" and transform.components > len(transform.of):
            yield (*path, "components"), "there are no more components than numbers", (
                f"ask for at most {len(transform.of)}, or name more numbers")
        if transform.kind == "pca" and explained:
            yield (*path, "kind"), "a column of several fields cannot say what each field did", (
                "remove it, or model.explain.rows")


def check_taken_over(features: Features | None, transferred: bool) -> Iterator[Finding]:
    """Beside model.transfer columns are taken over from a version with the same transforms; those of labels are not."""
    for number, one in enumerate(features.transforms if features is not None and transferred else ()):
        if one.kind == "target_encoding":
            yield ("features", "transforms", number, "kind"), (
                "target_encoding says what labels were, and another model's are others"), (
                "remove it, or model.transfer; hashing and one_hot are taken over")


def _wrong(transform: Transform, name: str, inputs: dict[str, FieldSpec], family: str | None,
           again: bool) -> Iterator[tuple[str, str]]:
    spec, kind = inputs.get(name), transform.kind
    if spec is None:
        yield f"`{name}` is no field or window column a model could take", (
            f"name one of {', '.join(inputs)}" if len(inputs) <= 10 else "name one of events.fields")
    elif not spec.input:
        yield f"`{name}` is no input of the model", "remove it, or its `input: false`"
    elif spec.type not in _TAKES[kind]:
        yield f"{kind} takes no {spec.type}", (
            f"it is for {' and '.join(sorted(_TAKES[kind]))}; for a {spec.type} use "
            f"{' or '.join(one for one, types in _TAKES.items() if spec.type in types) or 'none'}")
    elif spec.type == "text" and family in SHAPED:
        yield f"{family} reads `{name}` word by word", "remove it, or use mlp"
    elif again:
        yield f"`{name}` has a {kind} already", "remove one of them"
