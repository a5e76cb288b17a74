"""What may be done to a model's state, and what each deed leaves behind: champion, its history, tags, kept versions.

Every function here changes the state it is given and says whether it did; storing, numbering and signing are the
caller's. None looks at a clock: `now` is the moment of the change.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.contracts.pb.models_pb2 import (
    ROLLOUT_STATE_ABORTED,
    ROLLOUT_STATE_PROMOTED,
    ROLLOUT_STATE_REVERTED,
    ROLLOUT_STATE_RUNNING,
    ChampionTerm,
    ModelState,
    ModelVersion,
    RolloutState,
    VersionStatus,
)
from lepton.errors import Invalid, Missing, Refused

READY = VersionStatus.VERSION_STATUS_READY
REJECTED = VersionStatus.VERSION_STATUS_REJECTED
ROLLED_BACK = VersionStatus.VERSION_STATUS_ROLLED_BACK
RETIRED = VersionStatus.VERSION_STATUS_RETIRED

# The whole state is one record of a topic, so what is told of the past is bounded.
MAX_TERMS, MAX_NOTE = 200, 500
MAX_TAGS, MAX_TAGGED = 16, 50
TAG_NAME, MAX_TAG_VALUE = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}"), 200


@dataclass(frozen=True, slots=True)
class Why:
    """Who wants a change (a run, a key, an issuer), in which words."""

    by: str = ""
    note: str = ""


def kept(state: ModelState, version: int) -> ModelVersion:
    """Raises Missing for a version that is not kept."""
    for one in state.versions:
        if one.version == version:
            return one
    raise Missing(f"version {version} of {state.model} is not kept", field="version")


def promote(state: ModelState, version: int, now: Timestamp, why: Why) -> bool:
    """Make it champion. Raises Missing, or Refused for a version that was rejected or retired."""
    wanted = kept(state, version)
    if wanted.status == REJECTED:
        raise Refused(f"version {version} of {state.model} did not pass its gate", field="version")
    if wanted.status == RETIRED:
        raise Refused(f"version {version} of {state.model} is retired", field="version",
                      remedy="promote another version, or train one")
    if state.champion == version:
        return False
    wanted.status = READY
    crown(state, version, now, "promoted", why)
    state.reason = "promoted"
    return True


def roll_back(state: ModelState, leaving: int, now: Timestamp, why: Why) -> bool:
    """Leave the champion for the one before it, or a candidate that is tried. Raises Refused when that cannot be."""
    if tried(state) == leaving:
        end_rollout(state, ROLLOUT_STATE_REVERTED, now, why)
        return True
    if state.champion != leaving:
        if kept(state, leaving).status == ROLLED_BACK:
            return False
        raise Refused(f"version {leaving} of {state.model} is not the champion", field="from_version")
    if not state.previous_champion:
        raise Refused(f"{state.model} has no version before {leaving} to go back to", field="from_version",
                      remedy="retrain the model")
    kept(state, leaving).status = ROLLED_BACK
    crown(state, state.previous_champion, now, "rolled_back", why)
    state.previous_champion = 0
    state.reason = "rolled_back"
    return True


def retire(state: ModelState, version: int) -> bool:
    """Take a version out of use for good. Raises Missing, or Refused for the champion and a candidate that is tried."""
    wanted = kept(state, version)
    if state.champion == version:
        raise Refused(f"version {version} of {state.model} is the champion", field="version",
                      remedy="promote another version, or roll back, first")
    if tried(state) == version:
        raise Refused(f"version {version} of {state.model} is tried beside the champion", field="version",
                      remedy="end its rollout first")
    if wanted.status == RETIRED:
        return False
    wanted.status = RETIRED
    if state.previous_champion == version:
        state.previous_champion = 0
    state.reason = "retired"
    return True


def tag(state: ModelState, version: int, tags: Mapping[str, str]) -> bool:
    """Set each tag, or take it away where its value is empty. Raises Missing or Invalid."""
    wanted = kept(state, version)
    for name, value in tags.items():
        if not TAG_NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no name of a tag", field="tags",
                          remedy="use lower-case letters, digits, dots, dashes and underscores, 40 at most")
        if len(value) > MAX_TAG_VALUE:
            raise Invalid(f"the value of tag `{name}` is longer than {MAX_TAG_VALUE} characters", field="tags")
    after = {name: value for name, value in {**wanted.tags, **tags}.items() if value}
    if len(after) > MAX_TAGS:
        raise Invalid(f"a version has at most {MAX_TAGS} tags", field="tags", remedy="take others away first")
    tagged = sum(1 for one in state.versions if one.tags and one.version != version)
    if after and not wanted.tags and tagged >= MAX_TAGGED:
        raise Refused(f"{MAX_TAGGED} versions of {state.model} have tags, and all of those are kept", field="tags",
                      remedy="take the tags of some away first")
    if after == dict(wanted.tags):
        return False
    wanted.tags.clear()
    wanted.tags.update(after)
    state.reason = "tagged"
    return True


def crown(state: ModelState, version: int, now: Timestamp, reason: str, why: Why) -> None:
    """Have `version` answer from now on, and say so in the history. A rollout under way is over with it."""
    if tried(state):
        end_rollout(state, ROLLOUT_STATE_PROMOTED if tried(state) == version else ROLLOUT_STATE_ABORTED, now, why)
    if state.champion and state.champion != version:
        state.previous_champion = state.champion
    if state.champions and not state.champions[-1].HasField("until"):
        state.champions[-1].until.CopyFrom(now)
    state.champion = version
    state.champions.append(ChampionTerm(version=version, since=now, reason=reason, by=why.by,
                                        note=why.note[:MAX_NOTE], sha256=kept(state, version).manifest.sha256))
    if len(state.champions) > MAX_TERMS:
        del state.champions[:-MAX_TERMS]


def tried(state: ModelState) -> int:
    """The candidate of a rollout that is under way; 0 while there is none."""
    return state.rollout.candidate if state.rollout.state == ROLLOUT_STATE_RUNNING else 0


def end_rollout(state: ModelState, verdict: RolloutState.ValueType, now: Timestamp, why: Why) -> None:
    """Note how the rollout under way ended; only `crown` makes anybody champion."""
    rollout = state.rollout
    rollout.state, rollout.share, rollout.by, rollout.note = verdict, 0.0, why.by, why.note[:MAX_NOTE]
    rollout.ended_at.CopyFrom(now)
    if verdict == ROLLOUT_STATE_REVERTED:
        kept(state, rollout.candidate).status = ROLLED_BACK
    state.reason = "rollout"


def needed(state: ModelState, also: Collection[int] = ()) -> set[int]:
    """Versions something refers to: they answer, answered before, are tried, have tags, were parent of the champion, or
    are named in `also` (runs that wait)."""
    parents = {one.manifest.lineage.parent_version for one in state.versions
               if one.version == state.champion and not one.manifest.lineage.parent_model}
    tagged = {one.version for one in state.versions if one.tags}
    return {state.champion, state.previous_champion, tried(state), *parents, *tagged, *also} - {0}


def forget_old(state: ModelState, keep: int, also: Collection[int] = ()) -> bool:
    """Drop the oldest beyond the newest `keep`, but none that is needed."""
    newest = sorted((one.version for one in state.versions), reverse=True)[:keep]
    return _keep_only(state, needed(state, also).union(newest))


def forget_retired(state: ModelState, also: Collection[int] = ()) -> bool:
    """Drop retired versions that nothing refers to."""
    stay = needed(state, also).union(one.version for one in state.versions if one.status != RETIRED)
    if not _keep_only(state, stay):
        return False
    state.reason = "collected"
    return True


def _keep_only(state: ModelState, stay: Iterable[int]) -> bool:
    wanted = set(stay)
    remain = [one for one in state.versions if one.version in wanted]
    if len(remain) == len(state.versions):
        return False
    copies = [ModelVersion.FromString(one.SerializeToString()) for one in remain]
    del state.versions[:]
    state.versions.extend(copies)
    return True
