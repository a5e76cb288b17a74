"""Incidents, at most one open for a symptom, and the lease that lets one of two watchdogs act."""

from lepton.clock import Clock
from lepton.contracts.pb.incidents_pb2 import Incident, IncidentState
from lepton.errors import Busy, Missing, Refused
from lepton.store.announce import announced
from lepton.store.documents import Document, DocumentDatabase, Documents
from lepton.store.runs import MAX_SKEW_S

_TRIES = 5


class Incidents:
    """Written by the watchdog only; each document carries the announcement of its latest revision."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._documents = database.collection("incidents")

    @property
    def announcing(self) -> Documents:
        """What the relay publishes to `lepton-incidents`."""
        return self._documents

    async def open(self, incident: Incident, symptom_key: str) -> Incident:
        """Store a new incident, or return the one already open for `symptom_key` (then nothing is stored).

        Opening the same incident again, by its id, changes nothing.
        """
        incident.revision = 1
        document = {"_id": incident.incident_id, "open_key": symptom_key, "opened_at_s": _opened(incident),
                    **_fields(incident)}
        for _ in range(_TRIES):
            if await self._documents.insert(document):
                return incident
            same = await self._documents.get(incident.incident_id)
            if same is not None:
                return _decode(same)
            already = await self._documents.find({"open_key": symptom_key}, limit=1)
            if already:
                return _decode(already[0])
            # It was closed between the two reads: try again.
        raise Busy(f"incidents about {symptom_key} open and close at the same time")

    async def advance(self, incident: Incident) -> Incident:
        """Store the next state of an open incident, given with the revision it was read at; returns it, revision + 1.

        A verified incident is closed: its symptom may open a new one. Raises Missing for an unknown incident, Refused
        when it moved on since it was read.
        """
        expected = incident.revision
        after = Incident()
        after.CopyFrom(incident)
        after.revision = expected + 1
        changes = _fields(after)
        if after.state == IncidentState.INCIDENT_STATE_VERIFIED:
            changes["open_key"] = f"closed:{after.incident_id}"
        if not await self._documents.swap(incident.incident_id, {"revision": expected}, changes):
            await self.get(incident.incident_id)
            raise Refused(f"incident {incident.incident_id} has moved on from revision {expected}", field="revision",
                          remedy="read it again")
        return after

    async def get(self, incident_id: str) -> Incident:
        """Raises Missing for an unknown one."""
        document = await self._documents.get(incident_id)
        if document is None:
            raise Missing(f"there is no incident {incident_id}")
        return _decode(document)

    async def still_open(self) -> list[Incident]:
        """Those not verified, oldest first: what a watchdog that takes over must go on with."""
        match = {"state": {"$ne": int(IncidentState.INCIDENT_STATE_VERIFIED)}}
        return [_decode(document) for document in await self._documents.find(match, order="opened_at_s")]

    async def list(self, limit: int = 100) -> list[Incident]:
        """Newest first."""
        return [_decode(document) for document in await self._documents.find({}, order="-opened_at_s", limit=limit)]


class Lease:
    """The right to act under a name, held by one owner at a time; each taking has a higher fence.

    An owner takes its own lease again at once (it was restarted); another waits until the end plus MAX_SKEW_S. A fence
    is at least the seconds since 1970: those who obey remember the highest, and would refuse every command of a lease
    that began again at 1 after its document was lost, or went on from that of a backup.
    """

    def __init__(self, database: DocumentDatabase, clock: Clock, collection: str = "leases") -> None:
        """Each service keeps its leases in a `collection` of its own."""
        self._documents = database.collection(collection)
        self._clock = clock

    async def acquire(self, name: str, owner: str, lease_s: float) -> int | None:
        """The fence, or None while another owner holds the lease."""
        now = self._clock.now().timestamp()
        held = await self._documents.get(name)
        if held is None:
            fence = int(now)
            taken = await self._documents.insert(
                {"_id": name, "owner": owner, "fence": fence, "until_s": now + lease_s})
            return fence if taken else None
        if held["owner"] != owner and now < held["until_s"] + MAX_SKEW_S:
            return None
        fence = max(int(held["fence"]) + 1, int(now))
        taken = await self._documents.swap(name, {"fence": held["fence"], "until_s": held["until_s"]},
                                           {"owner": owner, "fence": fence, "until_s": now + lease_s})
        return fence if taken else None

    async def renew(self, name: str, fence: int, lease_s: float) -> bool:
        """Hold it for another `lease_s`; False when it was lost."""
        return await self._documents.swap(
            name, {"fence": fence}, {"until_s": self._clock.now().timestamp() + lease_s})

    async def release(self, name: str, fence: int) -> None:
        """Let another take it at once; harmless when it was lost."""
        await self._documents.swap(name, {"fence": fence}, {"owner": "", "until_s": 0.0})


def _opened(incident: Incident) -> float:
    return incident.opened_at.ToNanoseconds() / 1e9


def _fields(incident: Incident) -> Document:
    value = incident.SerializeToString(deterministic=True)
    return {"state": int(incident.state), **announced(incident.incident_id, value, incident.revision)}


def _decode(document: Document) -> Incident:
    return Incident.FromString(document["announcement"])
