"""How an operator's recovery command is signed and sent, and what was answered."""

import secrets
from collections.abc import Mapping
from datetime import UTC, timedelta

from lepton.bus.commands.audit import Audit
from lepton.bus.producer import Producer
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.pb.incidents_pb2 import Incident
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.recovery_pb2 import RecoveryAction, RecoveryCommand, RecoveryResult
from lepton.contracts.signing import Identity, sign_message
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Refused
from services.gateway.core.auth import Caller
from services.gateway.flow.streams import Streams

# Long enough to wait out a broker restart, short enough that nobody is surprised by an old command.
VALID_S = 120
KINDS = ("instance", "service", "model", "pipeline", "incident", "client")


def name_of(action: RecoveryAction.ValueType) -> str:
    """RESTART, SCALE, …"""
    return RecoveryAction.Name(action).removeprefix("RECOVERY_ACTION_")


class Commands:
    """Recovery commands of people; those of the watchdog go their own way on the same topic."""

    def __init__(self, producer: Producer, streams: Streams, audit: Audit, clock: Clock,
                 identity: Identity | None) -> None:
        self._producer = producer
        self._streams = streams
        self._audit = audit
        self._clock = clock
        self._identity = identity

    async def send(self, caller: Caller, action: RecoveryAction.ValueType, target: str, arguments: Mapping[str, str],
                   cause: str) -> RecoveryCommand:
        """Sign and send one command; returns it once durable. Whoever executes it answers on its own.

        Raises Invalid for a target of no known kind, Refused where the gateway has no operator identity.
        """
        if self._identity is None:
            raise Refused("this gateway has no operator identity", field="keys_dir",
                          remedy="make one with `python -m deploy.identities` and set LEPTON_KEYS_DIR")
        kind, _, name = target.partition(":")
        if kind not in KINDS or not name:
            raise Invalid(f"{target!r} is no target", field="target",
                          remedy=f"write one of {', '.join(f'{kind}:<name>' for kind in KINDS)}")
        now = self._clock.now()
        command = RecoveryCommand(
            command_id=f"operator-{secrets.token_hex(8)}", action=action, target=target,
            arguments=dict(arguments), cause=cause or "operator", issuer=f"operator:{caller.key_id}")
        command.issued_at.FromDatetime(now)
        command.expires_at.FromDatetime(now + timedelta(seconds=VALID_S))
        sign_message(self._identity, command)
        await self._audit.record(caller.key_id, f"recovery.{name_of(action).lower()}", target, command.command_id)
        await self._producer.send(Topic.RECOVERY_COMMANDS, command, key=target)
        return command

    async def roll_back(self, caller: Caller, state: ModelState, from_version: int = 0,
                        note: str = "") -> RecoveryCommand:
        """Ask the trainer to leave `from_version` (0: the champion) for the version before it."""
        leaving = from_version or state.champion
        if leaving != state.champion:
            raise Refused(f"version {leaving} of {state.model} is not the champion", field="from_version",
                          remedy=f"the champion is version {state.champion}")
        return await self.send(caller, RecoveryAction.RECOVERY_ACTION_ROLL_BACK, f"model:{state.model}",
                               {"from_version": str(leaving)}, note)

    async def decide(self, caller: Caller, incident: Incident, approved: bool, note: str = "") -> RecoveryCommand:
        """A person's word on the action that waits for it. Raises Refused where none does (any more)."""
        if not incident.awaiting or incident.approve_by.ToDatetime(UTC) <= self._clock.now():
            raise Refused(f"nothing of incident {incident.incident_id} waits for a person's word", field="awaiting",
                          remedy="`lepton incidents` shows what does")
        action = RecoveryAction.RECOVERY_ACTION_APPROVE if approved else RecoveryAction.RECOVERY_ACTION_DENY
        return await self.send(caller, action, f"incident:{incident.incident_id}",
                               {"rung": str(len(incident.command_ids))}, note)

    async def results(self, count: int) -> list[RecoveryResult]:
        """The newest answers to recovery commands, whoever sent them, newest first."""
        topic_name = topics.name(Topic.RECOVERY_RESULTS)
        return await self._streams.messages(Topic.RECOVERY_RESULTS, RecoveryResult, topic_name, count)

