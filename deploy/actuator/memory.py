"""What the actuator remembers over restarts: commands it carried out, with their results, and the newest lease."""

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.errors import Refused


class Memory:
    """Kept in one file, written whole before a result is told; a command is forgotten once it has expired."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: dict[str, dict[str, str]] = {}
        self.newest_fence = 0

    def load(self) -> None:
        """A file that cannot be read is put aside: commands expire, so the worst is one restart done twice."""
        if not self._path.exists():
            return
        try:
            kept = json.loads(self._path.read_text())
            self._done, self.newest_fence = dict(kept["done"]), int(kept["newest_fence"])
        except (ValueError, KeyError, TypeError):
            self._path.replace(self._path.with_suffix(".unreadable"))

    def result_of(self, command: RecoveryCommand) -> RecoveryResult | None:
        """The result of this very command if it was carried out before.

        Raises Refused when another command bore its id.
        """
        kept = self._done.get(command.command_id)
        if kept is None:
            return None
        if kept["signature"] != base64.b64encode(command.signature).decode():
            raise Refused("another command had this id", field="command_id", place=command.command_id)
        return RecoveryResult.FromString(base64.b64decode(kept["result"]))

    def keep(self, command: RecoveryCommand, result: RecoveryResult, newest_fence: int, now: datetime) -> None:
        """Remember a command that was carried out, durably, and forget those that have expired.

        Raises OSError when it cannot be written; it is remembered nevertheless, and written with the next one.
        """
        self.newest_fence = newest_fence
        self._done[command.command_id] = {
            "signature": base64.b64encode(command.signature).decode(),
            "result": base64.b64encode(result.SerializeToString()).decode(),
            "until": command.expires_at.ToDatetime(tzinfo=UTC).isoformat(),
        }
        self._done = {command_id: kept for command_id, kept in self._done.items()
                      if datetime.fromisoformat(kept["until"]) >= now or command_id == command.command_id}
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        with draft.open("w") as sink:
            json.dump({"done": self._done, "newest_fence": self.newest_fence}, sink)
            sink.flush()
            os.fsync(sink.fileno())
        draft.replace(self._path)
