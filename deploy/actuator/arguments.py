"""What the arguments of a command say, and which values make no sense."""

from collections.abc import Mapping

from lepton.errors import Invalid


def count(arguments: Mapping[str, str], name: str) -> int:
    """A whole number that must be among the arguments of a command. Raises Invalid when it is not."""
    value = arguments.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) < 6):
        raise Invalid("must be a whole number", field=name)
    return int(value)
