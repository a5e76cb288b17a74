"""When the next backup is due, and what goes once it is there."""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from deploy.backup import folder
from deploy.backup.settings import BackupSettings
from deploy.local.steps import say
from lepton.clock import Clock
from lepton.errors import LeptonError

_LOOK_S = 60.0


def due_in(target: Path, stack: str, every_h: float, clock: Clock) -> float:
    """Seconds until the next backup of the stack; 0 when it is due or there is none."""
    newest = [entry.created for entry in (folder.entries(target) if target.is_dir() else []) if entry.stack == stack]
    if not newest:
        return 0.0
    return max(0.0, (newest[-1] + timedelta(hours=every_h) - clock.now()).total_seconds())


def run(take: Callable[[], Path], target: Path, stack: str, settings: BackupSettings, clock: Clock) -> None:
    """Take a backup whenever one is due, until the process is ended. One that fails is said and tried again."""
    while True:
        if waiting := due_in(target, stack, settings.every_h, clock):
            asyncio.run(clock.sleep(min(waiting, _LOOK_S)))
            continue
        try:
            say(f"taken: {take()}")
        except (LeptonError, OSError) as error:
            # Also a full disk: there may be room again at the next try.
            sys.stderr.write(f"error: no backup was taken: {error}\n")
            asyncio.run(clock.sleep(_LOOK_S))
            continue
        try:
            for gone in prune(target, stack, settings, clock):
                say(f"removed: {gone}")
        except (LeptonError, OSError) as error:
            sys.stderr.write(f"error: old backups stay until the next one is taken: {error}\n")


def prune(target: Path, stack: str, settings: BackupSettings, clock: Clock) -> list[Path]:
    return folder.prune(target, stack, keep=settings.keep, keep_days=settings.keep_days, now=clock.now())
