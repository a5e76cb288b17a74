"""What the arguments of a command say, and which values make no sense."""

from collections.abc import Mapping

from lepton.errors import Invalid


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
