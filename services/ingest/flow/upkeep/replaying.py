"""Dead letters sent back by command: those of a time, of sources that are accepted, that never went back before."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from lepton.bus.letters.choosing import LetterFilter
from lepton.bus.letters.letter import Letter
from lepton.bus.letters.settling import replay
from lepton.bus.records import Broker
from lepton.contracts import topics
from lepton.contracts.envelope import ATTEMPT
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Missing

MAX_LETTERS = 10_000
"""Letters of a topic that one command sends back."""
QUARANTINED = "quarantined"
NO_BYTES = 0
_KNOWN = frozenset({"since", "until", "source", "code", "limit"})
_TOPICS: Mapping[str, Topic] = {"events": Topic.EVENTS, "labels": Topic.LABELS}


class Replaying:
    """Carried out twice, the second time finds nothing: what went back is marked in the same transaction.

    `generation_of` gives None for a pipeline that is not worked for, `shut_out` its quarantined sources.
    """

    def __init__(self, broker: Broker, generation_of: Callable[[str], int | None],
                 shut_out: Callable[[str], frozenset[str]]) -> None:
        self._broker = broker
        self._generation_of = generation_of
        self._shut_out = shut_out

    async def replay(self, name: str, arguments: Mapping[str, str]) -> str:
        """What was done, for a person. Raises Invalid, Missing, Refused (another replay is under way), Unavailable."""
        wanted, limit = _meant(arguments)
        generation = self._generation_of(name)
        if generation is None:
            raise Missing(f"there is no pipeline {name}", field="target", remedy="see `lepton get pipelines`")
        shut_out = self._shut_out(name)
        gone, more = 0, False
        for topic_name, topic in _TOPICS.items():
            def chosen(letter: Letter, of: str = topic_name) -> bool:
                return wanted.matches(of, letter.record.partition, letter.record.offset, letter) and _may_help(
                    letter, shut_out)
            sent = await replay(self._broker, topics.name(topic, name, generation), chosen, limit=limit,
                                keep_bytes=NO_BYTES)
            gone, more = gone + len(sent), more or len(sent) >= limit
        told = f"{gone} dead letters of pipeline {name} went back"
        if shut_out:
            told += f"; those of {', '.join(sorted(shut_out))} stay, quarantined"
        return told + (f"; there may be more than the {limit} of one command" if more else "")


def _may_help(letter: Letter, shut_out: frozenset[str]) -> bool:
    """Whether it could be accepted now. What went back once and was refused again is left to a person."""
    if letter.header(ATTEMPT) not in ("", "1"):
        return False
    if letter.source in shut_out:
        return False
    if letter.origin_partition is None:
        # A row that never lay on the topic was refused where it was read, and has no key to go back by.
        return False
    # A structured CloudEvent names its source within: it may be one that is still shut out.
    return not (shut_out and letter.code == QUARANTINED and not letter.source)


def _meant(arguments: Mapping[str, str]) -> tuple[LetterFilter, int]:
    unknown = sorted(set(arguments) - _KNOWN)
    if unknown:
        raise Invalid(f"{unknown[0]} is no argument of a replay", field=f"arguments.{unknown[0]}",
                      remedy=f"use {', '.join(sorted(_KNOWN))}")
    return LetterFilter(since=_time(arguments, "since"), until=_time(arguments, "until"),
                        source=arguments.get("source"), code=arguments.get("code")), _limit(arguments)


def _time(arguments: Mapping[str, str], name: str) -> datetime | None:
    if name not in arguments:
        return None
    try:
        return datetime.fromtimestamp(float(arguments[name]), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Invalid("must be seconds since the epoch", field=f"arguments.{name}") from error


def _limit(arguments: Mapping[str, str]) -> int:
    text = arguments.get("limit", str(MAX_LETTERS))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_LETTERS):
        raise Invalid(f"must be a whole number within 1..{MAX_LETTERS}", field="arguments.limit")
    return int(text)
