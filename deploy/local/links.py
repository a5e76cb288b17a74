"""The connections of a breakable stack: each goes through a port of its own, of a proxy that can delay or cut it."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.ports import PREDICTOR_NAMES, SERVICE_INSTANCES, Stack, listener, way

DATABASE, KAFKA = "database", "kafka"
_WITHOUT_DATABASE = frozenset({"actuator"})


@dataclass(frozen=True, slots=True)
class Link:
    """From one process to another: who begins it connects to `port`, and is passed on to `listens`."""

    source: str
    target: str
    port: int
    listens: int

    @property
    def name(self) -> str:
        return f"{self.source}-{self.target}"


def links(stack: Stack) -> tuple[Link, ...]:
    """All of them; none of a stack that is not breakable, nor to a broker or database of somebody else."""
    if not stack.breakable:
        return ()
    found = []
    for source in SERVICE_INSTANCES:
        if not stack.kafka_bootstrap:
            found.append(Link(source, KAFKA, stack.ports[way(source, KAFKA)], stack.ports[listener(source)]))
        if not stack.mongo_url and source not in _WITHOUT_DATABASE:
            found.append(Link(source, DATABASE, stack.ports[way(source, DATABASE)], stack.ports["mongo"]))
    found += [Link("gateway", name, stack.ports[way("gateway", name)], stack.ports[name]) for name in PREDICTOR_NAMES]
    return tuple(found)


def listeners(stack: Stack) -> dict[str, tuple[int, int]]:
    """Where the broker listens for each process, and what it has to say of where that is: the proxy's port."""
    return {one.source: (one.listens, one.port) for one in links(stack) if one.target == KAFKA}


def environment(stack: Stack, instance: str) -> Mapping[str, str]:
    """The settings by which a process takes its links, and by which others take those that lead to it."""
    told = {}
    for one in links(stack):
        address = f"127.0.0.1:{one.port}"
        if one.source == instance and one.target == KAFKA:
            told["LEPTON_KAFKA_BOOTSTRAP"] = address
        elif one.source == instance and one.target == DATABASE:
            # It names its own address to who asks, and clients would go there.
            told["LEPTON_MONGO_URL"] = f"mongodb://{address}/?directConnection=true"
        elif one.target == instance:
            told["LEPTON_PREDICTOR_ADVERTISED"] = address
    return told
