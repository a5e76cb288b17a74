"""Numbers among the arguments of a command, and which values make no sense."""

import math

from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.errors import Invalid


def number(command: RecoveryCommand, name: str, most: float, *, default: float = math.nan, zero: bool = False,
           unit: str = "") -> float:
    """Above 0, or with `zero` 0 too, and at most `most`; the default where it is not given. Raises Invalid, also where
    there is no default."""
    try:
        value = float(command.arguments[name]) if name in command.arguments else default
    except ValueError:
        value = math.nan
    if not (0 < value <= most or (zero and value == 0)):
        raise Invalid(f"must be a number{unit and f' of {unit}'}{', 0 or more' if zero else ' above 0'}, "
                      f"at most {most:g}", field=f"arguments.{name}", place=command.command_id)
    return value


def seconds(command: RecoveryCommand, name: str, most: float, *, default: float = math.nan,
            zero: bool = False) -> float:
    """`number`, of seconds."""
    return number(command, name, most, default=default, zero=zero, unit="seconds")
