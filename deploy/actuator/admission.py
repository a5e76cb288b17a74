"""Which commands are to be trusted: signed by who may, in time, under the newest lease; decides, does nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.signing import Role, TrustStore, verify_message
from lepton.errors import Invalid, Refused

LONGEST = timedelta(minutes=15)
"""No command is good for longer: used ids are kept until they expire, and that must end."""

ISSUERS: tuple[Role, ...] = ("watchdog", "operator")


def admit(command: RecoveryCommand, trust: TrustStore, now: datetime, skew: timedelta, newest_fence: int) -> Role:
    """The role the command was signed in. Raises Refused, with the reason, when it may not be executed.

    `newest_fence` is the highest lease number seen of a watchdog: one that lost its lease must not act. Operators hold
    no lease.
    """
    role = _signer(command, trust, now)
    issued, expires = _time(command, "issued_at"), _time(command, "expires_at")
    if expires + skew < now:
        raise Refused(f"the command expired {(now - expires).total_seconds():.1f} s ago", field="expires_at",
                      place=command.command_id)
    if issued - skew > now:
        raise Refused("the command is from the future", field="issued_at", place=command.command_id,
                      remedy="set the clocks of both machines")
    if expires - issued > LONGEST:
        raise Refused(f"the command is good for longer than {LONGEST}", field="expires_at", place=command.command_id)
    if role == "watchdog" and command.fence < newest_fence:
        raise Refused(f"the issuer's lease {command.fence} is older than {newest_fence}", field="fence",
                      place=command.command_id)
    return role


def seconds(arguments: Mapping[str, str], name: str, default: float, most: float) -> float:
    """A duration among the arguments of a command, 0 to `most`. Raises Invalid for anything else."""
    if name not in arguments:
        return default
    try:
        value = float(arguments[name])
    except ValueError:
        raise Invalid("must be a number of seconds", field=name) from None
    if not 0 <= value <= most:
        raise Invalid(f"must be within 0..{most:g}", field=name)
    return value


def count(arguments: Mapping[str, str], name: str) -> int:
    """A whole number that must be among the arguments of a command. Raises Invalid when it is not."""
    value = arguments.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) < 6):
        raise Invalid("must be a whole number", field=name)
    return int(value)


def _signer(command: RecoveryCommand, trust: TrustStore, now: datetime) -> Role:
    refused = None
    for role in ISSUERS:
        try:
            verify_message(trust, role, command, now)
        except Refused as error:
            # The reason for the first role is the one to tell, unless only the second knows the key.
            refused = error if refused is None or "may not act" in refused.message else refused
        else:
            return role
    raise refused or Refused("nobody may issue commands")


def _time(command: RecoveryCommand, field: str) -> datetime:
    value: datetime = getattr(command, field).ToDatetime(tzinfo=UTC)
    return value
