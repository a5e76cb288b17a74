"""The trainer's door for recovery commands, with the keys around it."""

from pathlib import Path
from typing import TypeAlias

from lepton.bus.consumer import Message
from lepton.bus.records import Record
from lepton.contracts.admission import Admission
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb import recovery_pb2, training_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.signing import Identity, TrustedKey, TrustStore, sign_message
from services.trainer.edge.recovery import RecoveryCommands
from tests.unit.trainer.world import World

Action: TypeAlias = "recovery_pb2.RecoveryAction.ValueType"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Door:
    """The trainer's recovery door with the keys around it."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        now = world.clock.now()
        self.keys = {name: Identity.create(path, name) for name in ("watchdog", "operator", "stranger")}
        trust = TrustStore({name: TrustedKey(name, self.keys[name].public_bytes(), frozenset({name}), now,
                                             now.replace(year=2030)) for name in ("watchdog", "operator")})
        self.door = RecoveryCommands(world.requests, Admission(trust), world.tell.result, world.clock)

    def signed(self, action: Action, *, by: str = "watchdog",
               command_id: str = "r1", target: str = "model:tumours", **arguments: str) -> RecoveryCommand:
        given = {name.rstrip("_"): value for name, value in arguments.items()}
        wanted = RecoveryCommand(command_id=command_id, action=action, target=target, arguments=given,
                                 incident_id="incident-1", issuer=by, fence=1)
        wanted.issued_at.FromDatetime(self.world.clock.now())
        wanted.expires_at.FromSeconds(wanted.issued_at.seconds + 60)
        sign_message(self.keys[by], wanted)
        return wanted

    async def receive(self, wanted: RecoveryCommand) -> None:
        await self.door.handle(message(wanted))

    @property
    def last(self) -> recovery_pb2.RecoveryResult:
        return self.world.results[-1]


def message(payload: RecoveryCommand | training_pb2.TrainingCommand) -> Message:
    return Message(Record("t", 0, 0, b"k", b""), Envelope(traceparent=PARENT), payload)
