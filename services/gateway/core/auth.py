"""Who a request comes from and what it may do, once the stored record of its key is at hand."""

from dataclasses import dataclass

from lepton.contracts.apikeys import KeyRecord, Scope, matches
from lepton.errors import Refused

# Refusals about who is asking name this field, those about what they may do the other: a door tells them apart by it.
WHO = "authorization"
WHAT = "scope"


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone whose key was recognised."""

    key_id: str
    scopes: tuple[Scope, ...]

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


def recognise(record: KeyRecord | None, secret: str) -> Caller:
    """Raises Refused for an unknown or revoked key and for a wrong secret: one answer, so that ids cannot be probed."""
    if record is None or not matches(record, secret):
        raise Refused("this API key is not valid", field=WHO, remedy="check the key, or ask an admin for a new one")
    return Caller(record.key_id, record.scopes)


def require(caller: Caller, scope: Scope) -> None:
    """Raises Refused naming the scope that the key lacks."""
    if not caller.allows(scope):
        raise Refused(f"this API key may not {scope.value}", field=WHAT,
                      remedy=f"use a key with the scope `{scope.value}`")
