"""How a candidate comes into production by steps: what begins a rollout, moves it on and ends it.

As in `states`, every function changes the state it is given, and storing, numbering and signing are the caller's.
"""

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.contracts.pb.models_pb2 import (
    ROLLOUT_STATE_PROMOTED,
    ROLLOUT_STATE_RUNNING,
    ROLLOUT_STRATEGY_SHADOW,
    ModelManifest,
    ModelState,
    ModelVersion,
    Rollout,
    RolloutState,
)
from lepton.errors import Refused
from lepton.store.registry.states import MAX_NOTE, Why, crown, end_rollout, kept, tried


def takes(state: ModelState, version: ModelVersion, wanted: Rollout, now: Timestamp, why: Why) -> bool:
    """Whether a candidate waits for a verdict: its rollout begins, or another's is under way and it is only kept.

    False when it is to be champion at once: there is none to compare it with, or it takes or gives other tensors, so
    that no request could be answered by either.
    """
    if tried(state):
        return True
    if not state.champion or not alike(kept(state, state.champion).manifest, version.manifest):
        return False
    begun = Rollout(candidate=version.version, champion=state.champion, strategy=wanted.strategy,
                    state=ROLLOUT_STATE_RUNNING, terms=wanted.terms, started_at=now, note=why.note[:MAX_NOTE])
    state.rollout.CopyFrom(begun)
    _set_step(state, 0, now)
    state.reason = "rollout"
    return True


def alike(one: ModelManifest, other: ModelManifest) -> bool:
    """Whether requests for one can be answered by the other."""
    return (one.task, list(one.inputs), list(one.outputs), one.input_schema_digest) == (
        other.task, list(other.inputs), list(other.outputs), other.input_schema_digest)


def step_on(state: ModelState, since: int, now: Timestamp, note: str) -> bool:
    """Have the candidate answer the next share; nothing changes when it is in another step by now, or in the last."""
    if not _in_step(state, since) or state.rollout.step + 1 >= len(state.rollout.terms.shares):
        return False
    _set_step(state, state.rollout.step + 1, now)
    state.rollout.note = note[:MAX_NOTE]
    state.reason = "rollout"
    return True


def end(state: ModelState, since: int, verdict: RolloutState.ValueType, now: Timestamp, why: Why) -> bool:
    """End it. `since` 0: whichever step it is in; raises Refused then when none is under way."""
    if not since and not tried(state):
        raise Refused(f"no candidate of {state.model} is tried", field="model", remedy="see `lepton rollout status`")
    if since and not _in_step(state, since):
        return False
    if verdict != ROLLOUT_STATE_PROMOTED:
        end_rollout(state, verdict, now, why)
        return True
    crown(state, tried(state), now, "rolled_out", why)
    state.reason = "promoted"
    return True


def _in_step(state: ModelState, since: int) -> bool:
    return tried(state) != 0 and state.rollout.since == since


def _set_step(state: ModelState, step: int, now: Timestamp) -> None:
    rollout = state.rollout
    rollout.step, rollout.since = step, state.revision + 1
    rollout.share = 0.0 if rollout.strategy == ROLLOUT_STRATEGY_SHADOW else rollout.terms.shares[step]
    rollout.step_at.CopyFrom(now)
