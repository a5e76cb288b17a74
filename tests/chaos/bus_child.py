"""A process that sums numbered records with a batch stage until it is stopped, for tests that kill it.

Run: python -m tests.chaos.bus_child BOOTSTRAP GROUP CLIENT_ID SOURCE OUTPUT STATE
"""

import asyncio
import signal
import sys

from lepton.bus import kafka
from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.stage import BatchStage
from lepton.clock import SystemClock
from lepton.runtime.settings import BrokerOptions
from tests.harness.bus import Summing


async def main(bootstrap: str, group: str, client_id: str, source: str, output: str, state: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    broker = kafka.connect(BrokerOptions(bootstrap=bootstrap, client_id=client_id))
    stage = BatchStage(broker, Subscription([source], group, client_id), Summing(output, state), Care(SystemClock()),
                       writer_prefix=group, max_records=200)
    await stage.run(stop)
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
