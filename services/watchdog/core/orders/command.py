"""What the watchdog asks of others: an order with an end to its validity."""

import msgspec


class Command(msgspec.Struct, frozen=True):
    """A recovery command to be signed and sent; it is void `valid_s` after it was issued."""

    command_id: str
    action: str
    target: str
    arguments: dict[str, str]
    cause: str
    incident_id: str
    valid_s: float
