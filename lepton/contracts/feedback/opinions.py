"""What somebody thinks of an answer, where nobody knows the truth: how it stands on the labels topic beside labels."""

import re
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from lepton.contracts.envelope import CONTENT_TYPE
from lepton.errors import Invalid

MEDIA_TYPE: Final = "application/vnd.lepton.opinion+json"
"""By this alone an opinion is told from a label."""
EVENT_TYPE: Final = "lepton.opinion"
MAX_ID_CHARS: Final = 256
MAX_AUTHOR_CHARS: Final = 128
MAX_REASON_CHARS: Final = 500

_MARK: Final = (CONTENT_TYPE, MEDIA_TYPE.encode())
# What msgspec says of a member that is not as it should be, and of one that is not there; never its value.
_AT = re.compile(r"(.*) - at `\$\.(\w+)`|Object (missing) required field `(\w+)`")


class Opinion(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Of one author, on the answer for one event: `accepted`, or a `score` from -1 to 1, below 0 a rejection.

    `author`: id of the API key it came with. `version`: the one that answered; 0: as the logged prediction says.
    """

    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
    author: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_AUTHOR_CHARS)]
    accepted: bool | None = None
    score: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    entity: Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)] = ""
    version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)] = ""

    @property
    def rejected(self) -> bool:
        return not self.accepted if self.score is None else self.score < 0


_decode = msgspec.json.Decoder(Opinion).decode


def is_opinion(headers: Iterable[tuple[str, bytes]]) -> bool:
    """Whether a record of the labels topic is one."""
    return _MARK in headers


def encode(opinion: Opinion) -> bytes:
    """Bytes of its record. Raises Invalid for one that `decode` would refuse."""
    value = msgspec.json.encode(opinion)
    decode(value)
    return value


def decode(value: bytes | None) -> Opinion:
    """The opinion in a record. Raises Invalid with the field and why, and without what the record says."""
    try:
        opinion = _decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        found = _AT.fullmatch(str(error)) if isinstance(error, msgspec.ValidationError) else None
        if found is None:
            raise Invalid("the opinion is no JSON object", remedy="see docs/prediction.md") from None
        raise Invalid(found[1] or found[3], field=found[2] or found[4], remedy="see docs/prediction.md") from None
    if (opinion.accepted is None) == (opinion.score is None):
        said = "neither" if opinion.score is None else "both"
        raise Invalid(f"{said} of `accepted` and `score` given", field="said", remedy="send one of them")
    return opinion
