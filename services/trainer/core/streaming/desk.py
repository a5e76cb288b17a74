"""What is asked of a stream's process, as plain JSON headers and bytes; `edge/pupils.py` is the other end."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from lepton.contracts import pipeline
from lepton.errors import Invalid
from services.trainer.core.streaming.pupil import Given, Pupil

Answer = tuple[dict[str, Any], bytes]


class Desk:
    """One pupil, once it was begun. `limit` is given the memory in MiB that it may take."""

    def __init__(self, limit: Callable[[int], None]) -> None:
        self._limit = limit
        self._pupil: Pupil | None = None

    def answer(self, header: Mapping[str, Any], payload: bytes) -> Answer:
        """Raises KeyError for a question there is not, and for any but `begin` before it."""
        if header["do"] == "begin":
            return self._begin(header, payload)
        return {"take": self._take, "state": self._state, "offered": self._offered}[header["do"]](header, payload)

    def _begin(self, header: Mapping[str, Any], payload: bytes) -> Answer:
        self._limit(int(header["memory_mb"]))
        try:
            self._pupil = Pupil(pipeline.from_json(header["spec"]), int(header["generation"]), payload or None)
        except Invalid as error:
            return {"failed": str(error)}, b""
        return {"seen": self._pupil.learner.seen}, b""

    def _take(self, header: Mapping[str, Any], payload: bytes) -> Answer:
        records, begin = [], 0
        for stream, partition, offset, size in header["records"]:
            records.append(Given(stream, partition, offset, payload[begin:begin + size]))
            begin += size
        return asdict(self._begun().take(records)), b""

    def _state(self, _: Mapping[str, Any], __: bytes) -> Answer:
        pupil = self._begun()
        return {"offsets": pupil.offsets, "seen": pupil.learner.seen}, pupil.state()

    def _offered(self, _: Mapping[str, Any], __: bytes) -> Answer:
        self._begun().offered()
        return {}, b""

    def _begun(self) -> Pupil:
        if self._pupil is None:
            raise KeyError("nothing was begun")
        return self._pupil
