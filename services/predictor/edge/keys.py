"""The loop that keeps what is known of API keys fresh, and says once when the database cannot be asked."""

import asyncio
import logging

from lepton.clock import Clock
from lepton.errors import Unavailable
from lepton.runtime.loops import pause
from services.predictor.flow.access import Access

LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)


class KeyCare:
    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """A loop for the service."""
        away = False
        while not await pause(stop, LOOK_EVERY_S, self._clock):
            try:
                await self._access.renew()
            except Unavailable as error:
                if not away:
                    log.warning("known API keys stay good, new ones cannot be looked up: %s", error)
                away = True
            else:
                away = False
