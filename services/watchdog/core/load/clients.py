"""Who asks how much of each model through the gateways, and whether one client's growth is what finds no room."""

from collections.abc import Collection
from dataclasses import dataclass, field
from math import exp
from typing import Final

from services.watchdog.core.inputs import ClientsSeen
from services.watchdog.core.load.bursts import Burst
from services.watchdog.core.thresholds.limits import Limits

# Heartbeats come twice a second; as long as it takes to see a share of them that is not chance.
LATELY_S: Final = 8.0
# What came so long ago counts for a third of what comes now.
USUAL_S: Final = 600.0
# All but one are to fit into this part of what is answered; the one gets the rest of it.
FILLED: Final = 0.8
LEAST_A_SECOND: Final = 1.0
OTHERS: Final = ""
"""What a gateway calls all keys together that it does not name."""


@dataclass(frozen=True, slots=True)
class Abuser:
    """A client whose growth is more than what found no room. Rates are requests a second, over all gateways;
    `allowed`: what there is room for."""

    key: str
    rate: float
    usual: float
    allowed: float

    @property
    def told(self) -> str:
        return f"client {self.key} asks {self.rate:.0f} times a second, usually {self.usual:.1f}"


@dataclass(slots=True)
class _Client:
    lately: Burst = field(default_factory=lambda: Burst(1, LATELY_S))
    usual: float = 0.0
    new: int = 0


@dataclass(slots=True)
class _Model:
    """`heard_s`: for how long what is usual was listened to, faded as it is."""

    at: float
    heard_s: float = 0.0
    clients: dict[str, _Client] = field(default_factory=dict)

    def look(self, now: float, troubled: bool) -> None:
        """What comes while requests find no room is not what is usual."""
        faded = exp(-(now - self.at) / USUAL_S)
        if not troubled:
            self.heard_s = self.heard_s * faded + now - self.at
        for client in self.clients.values():
            client.lately.look(now)
            if not troubled:
                client.usual = client.usual * faded + client.new
            client.new = 0
        self.at = now
        for key in [key for key, one in self.clients.items() if not one.lately.count and one.usual < 1]:
            del self.clients[key]


@dataclass(slots=True)
class Clients:
    """Those of all gateways, by model; and who was held back by a throttle of late."""

    limits: Limits
    _models: dict[str, _Model] = field(default_factory=dict)
    _throttled: dict[str, Burst] = field(default_factory=dict)

    def see(self, seen: ClientsSeen, now: float) -> None:
        for model, key, count in seen.asked:
            known = self._models.setdefault(model, _Model(now))
            client = known.clients.setdefault(key, _Client())
            client.lately.add(count, now)
            client.new += count
        for key, count in seen.throttled:
            self._throttled.setdefault(key, Burst(1, LATELY_S)).add(count, now)

    def look(self, now: float, troubled: Collection[str]) -> None:
        """Take note of the time that passed; `troubled`: models of which a request found no room of late."""
        for name, model in list(self._models.items()):
            model.look(now, name in troubled)
            if not model.clients:
                del self._models[name]
        for key in [key for key, burst in self._throttled.items() if not burst.look(now)]:
            del self._throttled[key]

    def held_back(self, key: str) -> bool:
        """Whether a request of that client was refused of late because it is throttled."""
        return key in self._throttled

    def abuser(self, model: str, asked: float, refused: float) -> Abuser | None:
        """The one client without whose growth all requests would have found room, if there is one.

        `asked`, `refused`: requests a second for the model at the predictors. A client alone is nobody's abuser, and
        neither is one that grew together with others: that is a surge.
        """
        known = self._models.get(model)
        if known is None or known.heard_s < self.limits.client_learn_s:
            return None
        rates = {key: one.lately.count / LATELY_S for key, one in known.clients.items()}
        usual = {key: one.usual / known.heard_s for key, one in known.clients.items()}
        named = [key for key in rates if key != OTHERS]
        if not named:
            return None
        key = max(named, key=lambda one: (rates[one] - usual[one], one))
        growth, others = rates[key] - usual[key], sum(rates.values()) - rates[key]
        grown = max(sum(max(0.0, rates[one] - usual[one]) for one in rates), asked - sum(usual.values()))
        if not others or growth < refused or growth < self.limits.client_share * grown:
            return None
        room = FILLED * (asked - refused) - max(others, asked - rates[key])
        return Abuser(key, rates[key], usual[key], max(usual[key], room, LEAST_A_SECOND))
