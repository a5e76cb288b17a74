"""What one can do with backups: take one, check one, bring one back, and try whether it could be brought back."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.backup import files, folder, predictions, site, taking
from deploy.backup.archive import parts
from deploy.backup.archive.parts import ArchiveWriter, Manifest
from deploy.backup.archive.secret import Secret
from deploy.backup.restoring import bringing
from deploy.backup.restoring.forward import Forward
from deploy.backup.settings import BackupSettings
from deploy.backup.site import Site
from deploy.local import ports, processes, programs, up
from deploy.local.steps import say, step
from lepton.clock import Clock, SystemClock
from lepton.contracts.signing import Identity, TrustStore
from lepton.errors import Refused, Unavailable

PREDICTIONS = "predictions"
TRIAL_SERVICES = ("gateway", "predictor-0")
"""What a stack on trial runs: it answers, and neither pulls from sources, nor trains, nor heals, nor tells anyone."""

_OF_HOME = ("kafka", "database", "state", "keys", "trust", "admin-key")
_UP_S, _DOWN_S = 900, 180


@dataclass(frozen=True)
class Checked:
    """A backup all of whose bytes were opened and are what its signed manifest says."""

    path: Path
    secret: Secret
    manifest: Manifest


def create(where: Site, secret: Secret, target: Path, clock: Clock, *, all_events: bool) -> Path:
    """A new backup in the folder `target`, read again once it is written."""
    now = clock.now()
    path = target / folder.name(where.name, now)
    facts = {"stack": where.name, "created": now.isoformat(), "sealed_by": secret.kind}
    identity = Identity.load(where.operator)
    with step("predictions") as told:
        kept, said = asyncio.run(predictions.keep(where))
        told.note = f"of {len(kept)} models are kept"
    for line in said:
        say(f"    {line}")
    with ArchiveWriter(path, secret, facts) as archive:
        with step("topics, documents and artefacts"):
            plan = asyncio.run(taking.take(where, archive, now.isoformat(), all_events=all_events))
        files.copy(archive, where.files)
        archive.begin(PREDICTIONS)
        archive.add(predictions.to_bytes(kept))
        archive.end(len(kept))
        archive.finish(plan.to_json(), identity)
    check(path, secret, where.files["trust"])
    return path


def check(path: Path, secret: Secret, trust: Path | None = None) -> Checked:
    """Read the whole backup. Raises Invalid or Refused as `parts.check`; with `trust`, a folder of trusted keys,
    Refused too when no operator of it has signed."""
    with step("every byte read, digests and signature compared") as told:
        manifest = parts.check(path, secret)
        told.note = f"{len(manifest.parts)} parts, signed by {manifest.signer}"
    if trust is not None:
        signed_at = datetime.fromisoformat(str(manifest.plan["created"]))
        TrustStore.load(trust).verify(manifest.signer, "operator", manifest.signed, manifest.signature, signed_at)
        say(f"  signed by an operator that {trust} trusts")
    else:
        say("  who may sign was not asked: no folder of trusted keys is given or there")
    return Checked(path, secret, manifest)


def restore_deployed(where: Site, backup: Checked, forward: Forward | None, replace: str) -> None:
    """Fill the broker and database that settings name. Keys are the deployment's own secrets, and are not written."""
    with step("topics, documents and artefacts"):
        lines = asyncio.run(bringing.bring(where, backup.path, backup.secret, backup.manifest, forward=forward,
                                           replace=replace))
    for line in lines:
        say(f"    {line}")


def restore(home: Path, backup: Checked, settings: BackupSettings, forward: Forward | None = None, replace: str = "",
            only: Sequence[str] = ()) -> None:
    """Make a stack under `home` of the backup and bring it up.

    What `home` held before is moved into a folder beside it, when `replace` names it; else Refused.
    """
    home.mkdir(parents=True, exist_ok=True)
    if processes.manager(home).alive():
        raise Refused("the stack runs", place=str(home), remedy="take it down first: lepton down")
    there = [name for name in _OF_HOME if (home / name).exists()]
    if there and replace != home.name:
        raise Refused(f"the stack {home.name} is not empty: it has {', '.join(there)}", place=str(home),
                      remedy=f"give another --home, or --replace {home.name}: what is there is then set aside")
    if there:
        aside = home / f"before-{SystemClock().now():%Y%m%dT%H%M%S}"
        aside.mkdir()
        for name in there:
            (home / name).rename(aside / name)
        say(f"  what was there is in {aside}")
    written = files.write(backup.path, backup.secret, site.files_of(home))
    say(f"  {len(written)} files of keys and trust")
    up.up(home, only=only, fill=lambda stack: restore_deployed(site.local(stack, settings), backup, forward, replace))


def trial(backup: Checked, secret_arguments: Sequence[str], settings: BackupSettings) -> None:
    """Bring it back into a stack of its own, on free ports, ask that for the kept predictions, and remove it again.

    Raises Unavailable when it does not come up, or does not answer as before.
    """
    kept = predictions.from_bytes(b"".join(frame for name, frame in parts.walk(backup.path, backup.secret)
                                           if name == PREDICTIONS))
    scratch = Path(tempfile.mkdtemp(prefix="lepton-trial-"))
    home = scratch / "home"
    environment = programs.bare_environment(scratch / "config")
    begin = [sys.executable, "-m"]
    try:
        done = subprocess.run([*begin, "deploy.backup", "restore", str(backup.path), "--home", str(home), "--trial",
                               *secret_arguments], cwd=programs.ROOT, env=environment, timeout=_UP_S, check=False)
        stack = ports.load(home)
        if done.returncode or stack is None:
            raise Unavailable("the backup could not be brought back", place=str(backup.path))
        own = site.local(stack, settings)
        with step("kept predictions asked again") as told:
            wrong = asyncio.run(predictions.differences(own, kept))
            told.note = f"of {len(kept)} models"
    finally:
        subprocess.run([*begin, "deploy.local", "down", "--home", str(home)], cwd=programs.ROOT, env=environment,
                       stdout=subprocess.DEVNULL, timeout=_DOWN_S, check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    if wrong:
        raise Unavailable("the stack brought back predicts otherwise: " + "; ".join(wrong))
    say(f"  brought back, and {len(kept)} models answer as before" if kept else
        "  brought back; the backup keeps no predictions to compare")
