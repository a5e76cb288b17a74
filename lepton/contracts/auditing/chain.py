"""Checks the hash chain of each writer of the audit log, record by record, from the bytes the log keeps.

Each record holds the SHA-256 of its writer's record before (linking as of Haber and Stornetta, "How to time-stamp a
digital document", 1991). Whoever can rewrite the log can compute such hashes too: what is changed together with all
that follows, or cut off at the end, shows against a head that was kept elsewhere.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from lepton.contracts.pb.incidents_pb2 import AuditRecord

DIGEST_BYTES = 32
LOOK_BACK = 200_000
"""Records a writer looks back for its own last one; where none of them is, its chain begins anew."""

_MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: sequence, SHA-256 and offset of its last record. Before the first: 0, none, -1.

    One that a person gave as a hash alone has sequence 0; `offset` -1: not known.
    """

    sequence: int = 0
    hash: bytes = b""
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold."""

    writer: str
    sequence: int
    offset: int
    why: str

    def __str__(self) -> str:
        return f"{self.writer}: sequence {self.sequence}, offset {self.offset}: {self.why}"


@dataclass(slots=True)
class Chain:
    """What was seen of one writer. `broken`: the first place that does not hold."""

    writer: str
    first: int
    records: int = 0
    head: Head = Head()
    broken: Break | None = None
    _met: bool = False


@dataclass(slots=True)
class Chains:
    """Takes the records of the audit log in the order of their offsets, then tells which chains hold.

    `begin`: offset of the first record that is read. `whole`: nothing was ever before it, so every chain must begin
    with sequence 1; otherwise (retention, or a part of the log) a chain may begin in the middle. `wanted`: heads kept
    elsewhere, each of which must still be in the log; of one before `begin`, or of which no offset is known where
    nobody knows what was before, nothing can be said: `unchecked`.
    """

    begin: int
    whole: bool
    wanted: Mapping[str, Head] = field(default_factory=dict)
    found: dict[str, Chain] = field(default_factory=dict)
    records: int = 0

    def take(self, offset: int, key: str, value: bytes) -> None:
        """The next record; `key` names the writer where the value cannot be read."""
        self.records += 1
        try:
            record = AuditRecord.FromString(value)
        except DecodeError:
            chain = self._chain(key, 0)
            self._break(chain, chain.head.sequence + 1, offset, "the record is no audit record: it was altered")
            return
        chain = self._chain(record.writer, record.sequence)
        if key != record.writer:
            self._break(chain, record.sequence, offset, f"the record's key names {key}: it was altered")
        hashed = digest(value)
        if chain.broken is None:
            chain.broken = self._next(chain, record, offset) if chain.records else self._first(record, offset)
        elif chain.broken.why.startswith(_MISSING) and record.sequence == chain.broken.sequence:
            # What is missing at its place comes later: nothing was dropped, two changed places.
            chain.broken = Break(chain.writer, record.sequence, chain.broken.offset,
                                 f"out of order: it comes only at offset {offset}")
        self._compare(chain, record, offset, hashed)
        chain.records += 1
        chain.head = Head(record.sequence, hashed, offset)

    def end(self) -> list[Break]:
        """The first broken place of each chain that does not hold, in the order of the log; no more may be taken."""
        for writer, head in self.wanted.items():
            chain = self.found.get(writer)
            if chain is not None and (chain._met or chain.broken is not None):
                continue
            if self._out_of_sight(head):
                continue
            told = f"the kept head {head.hash.hex()[:16]}… is not in the log"
            if chain is None:
                self.found[writer] = chain = Chain(writer, 0)
            last = f"the chain ends with sequence {chain.head.sequence}" if chain.records else "nor is any record of it"
            self._break(chain, head.sequence or chain.head.sequence + 1, max(head.offset, chain.head.offset + 1),
                        f"{told}, {last}: records were cut off")
        return sorted((one.broken for one in self.found.values() if one.broken), key=lambda one: one.offset)

    def unchecked(self) -> list[str]:
        """Writers whose kept head may lie before what was read, and was not met there."""
        return sorted(writer for writer, head in self.wanted.items() if self._out_of_sight(head)
                      and not (writer in self.found and self.found[writer]._met))

    def _out_of_sight(self, head: Head) -> bool:
        return head.offset < self.begin if head.offset >= 0 else not self.whole

    def _chain(self, writer: str, sequence: int) -> Chain:
        return self.found.setdefault(writer, Chain(writer, sequence))

    def _first(self, record: AuditRecord, offset: int) -> Break | None:
        if self.whole and record.sequence != 1:
            return Break(record.writer, 1, offset, f"{_MISSING} up to sequence {record.sequence - 1}: dropped")
        if len(record.previous_hash) != (0 if record.sequence == 1 else DIGEST_BYTES):
            return Break(record.writer, record.sequence, offset, "its previous hash is none: it was altered")
        return None

    def _next(self, chain: Chain, record: AuditRecord, offset: int) -> Break | None:
        expected, head, writer = chain.head.sequence + 1, chain.head, chain.writer
        if record.sequence == 1 and not record.previous_hash:
            anew = Break(writer, 1, offset, f"the chain begins anew after sequence {head.sequence}")
            return None if offset - head.offset > LOOK_BACK else anew
        if record.sequence > expected:
            return Break(writer, expected, offset, f"{_MISSING} up to sequence {record.sequence - 1}: dropped")
        if record.sequence < expected:
            return Break(writer, record.sequence, offset, f"out of order: sequence {head.sequence} stands before it")
        if record.previous_hash != head.hash:
            return Break(writer, head.sequence, head.offset, f"sequence {expected} at offset {offset} was "
                         "written after a record of another hash: one of the two was altered")
        return None

    def _compare(self, chain: Chain, record: AuditRecord, offset: int, hashed: bytes) -> None:
        head = self.wanted.get(chain.writer)
        if head is None:
            return
        if hashed == head.hash or (not chain.records and record.previous_hash == head.hash):
            chain._met = True
        elif head.sequence == record.sequence and head.offset in (-1, offset):
            self._break(chain, record.sequence, offset, "its hash is not that of the kept head: it was altered")

    def _break(self, chain: Chain, sequence: int, offset: int, why: str) -> None:
        if chain.broken is None:
            chain.broken = Break(chain.writer, sequence, offset, why)


def digest(value: bytes) -> bytes:
    """SHA-256 of a record as it is in the log, 32 bytes: what the record after it holds."""
    return hashlib.sha256(value).digest()
