"""Which recovery commands may be carried out: signed by who may, in time, under the newest lease, and not yet done."""

from datetime import UTC, datetime, timedelta

from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import Role, TrustStore, verify_message
from lepton.errors import Refused

# No command is good for longer: used ids are kept until they expire, and that must end.
LONGEST = timedelta(minutes=15)
SKEW = timedelta(seconds=5)
ISSUERS: tuple[Role, ...] = ("watchdog", "operator")


class Admission:
    """What one executor remembers of commands: ids until they expire, and the highest lease number of a watchdog.

    It forgets with its process, so what is carried out must be harmless when done twice; `newest_fence` may be given
    by an executor that kept it.
    """

    def __init__(self, trust: TrustStore, skew: timedelta = SKEW, newest_fence: int = 0) -> None:
        self._trust = trust
        self._skew = skew
        self._newest_fence = newest_fence
        self._used: dict[str, tuple[bytes, datetime, RecoveryResult | None]] = {}

    @property
    def newest_fence(self) -> int:
        """The highest lease number of a watchdog that was seen."""
        return self._newest_fence

    def check_signer(self, command: RecoveryCommand, now: datetime) -> Role:
        """The role it was signed in. Raises Refused: nobody vouches for this command, so nobody is to be answered."""
        refused = None
        for role in ISSUERS:
            try:
                verify_message(self._trust, role, command, now)
            except Refused as error:
                # The reason for the first role is the one to tell, unless only the second knows the key.
                refused = error if refused is None or "may not act" in refused.message else refused
            else:
                return role
        raise refused or Refused("nobody may issue commands")

    def admit(self, command: RecoveryCommand, role: Role, now: datetime) -> None:
        """Raises Refused, with the reason, for one that was truly signed and may not be carried out (any more)."""
        issued = command.issued_at.ToDatetime(tzinfo=UTC)
        expires = command.expires_at.ToDatetime(tzinfo=UTC)
        if expires + self._skew < now:
            raise Refused(f"the command expired {(now - expires).total_seconds():.1f} s ago", field="expires_at",
                          place=command.command_id)
        if issued - self._skew > now:
            raise Refused("the command is from the future", field="issued_at", place=command.command_id,
                          remedy="set the clocks of both machines")
        if expires - issued > LONGEST:
            raise Refused(f"the command is good for longer than {LONGEST}", field="expires_at",
                          place=command.command_id)
        if role == "watchdog" and command.fence < self._newest_fence:
            raise Refused(f"the issuer's lease {command.fence} is older than {self._newest_fence}", field="fence",
                          place=command.command_id)
        if role == "watchdog":
            self._newest_fence = command.fence

    def done_before(self, command: RecoveryCommand) -> tuple[bool, RecoveryResult | None]:
        """Whether it was carried out here, and the result to tell again (None while it is still under way).

        Raises Refused when another command bore its id.
        """
        if command.command_id not in self._used:
            return False, None
        signature, _, result = self._used[command.command_id]
        if signature != command.signature:
            raise Refused("another command had this id", field="command_id", place=command.command_id)
        return True, result

    def keep(self, command: RecoveryCommand, result: RecoveryResult | None, now: datetime) -> None:
        """Remember it as carried out, and forget those that have expired."""
        self._used[command.command_id] = (command.signature, command.expires_at.ToDatetime(tzinfo=UTC), result)
        self._used = {command_id: used for command_id, used in self._used.items() if used[1] + self._skew >= now}
