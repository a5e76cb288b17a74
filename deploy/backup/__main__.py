"""`python -m deploy.backup key|create|list|verify|restore|prune|schedule`: which command does what, and how it fails.
"""

import argparse
import logging
import sys
from pathlib import Path

from deploy.backup import folder, schedule, site, verbs
from deploy.backup.archive import parts
from deploy.backup.archive.secret import Secret, read_key, read_passphrase, write_key
from deploy.backup.restoring import forward
from deploy.backup.settings import BackupSettings
from deploy.backup.site import Site
from deploy.local import programs
from deploy.local.steps import ended, say
from lepton.clock import SystemClock
from lepton.errors import Invalid, Refused
from lepton.runtime.settings import load

_CLOCK = SystemClock()


def main() -> int:
    """Exit codes: 0 done, 1 it could not be (one line on stderr says why), 2 wrong usage, 130 interrupted."""
    arguments = _parser().parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    settings = _settings(arguments)
    return ended(f"lepton backup {arguments.command}", lambda: arguments.run(arguments, settings))


def _key(arguments: argparse.Namespace, _: BackupSettings) -> None:
    write_key(arguments.file)
    say(f"a new key is in {arguments.file}; keep a copy of it away from this machine: without it no backup opens")


def _create(arguments: argparse.Namespace, settings: BackupSettings) -> None:
    where = _site(arguments, settings)
    path = verbs.create(where, _secret(settings), _folder(settings), _CLOCK, all_events=settings.events == "all")
    say(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    for gone in schedule.prune(path.parent, where.name, settings, _CLOCK) if arguments.prune else []:
        say(f"removed {gone}")


def _list(_: argparse.Namespace, settings: BackupSettings) -> None:
    for entry in folder.entries(_folder(settings)):
        say(f"{entry.created:%Y-%m-%dT%H:%M:%SZ}  {entry.stack:<12} {entry.size_bytes / 1e6:>10.1f} MB  "
            f"{entry.sealed_by:<10}  {entry.path.name}")


def _verify(arguments: argparse.Namespace, settings: BackupSettings) -> None:
    secret = _secret(settings)
    there = settings.trust_dir if arguments.deployed else site.files_of(arguments.home)["trust"]
    trust = arguments.trust or (there if there.is_dir() else None)
    backup = verbs.check(_find(arguments.backup, settings), secret, trust)
    if arguments.restore:
        given = ["--key-file", settings.key_file] if settings.key_file else \
            ["--passphrase-file", settings.passphrase_file]
        verbs.trial(backup, given, settings)
    say(f"{backup.path.name} holds")


def _restore(arguments: argparse.Namespace, settings: BackupSettings) -> None:
    secret, ahead = _secret(settings), None
    backup = verbs.check(_find(arguments.backup, settings), secret, arguments.trust)
    if arguments.until and not arguments.events_from:
        raise Invalid("a backup ends where it ends", field="until", remedy="give --events-from LATER_BACKUP too")
    if arguments.events_from:
        later = _find(arguments.events_from, settings)
        ahead = forward.Forward(backup.path, later, secret, parts.check(later, secret),
                                forward.until(arguments.until))
    if arguments.deployed:
        verbs.restore_deployed(site.deployed(settings), backup, ahead, arguments.replace)
        return
    verbs.restore(arguments.home, backup, settings, ahead, arguments.replace,
                  verbs.TRIAL_SERVICES if arguments.trial else ())
    say(f"{backup.path.name} runs in {arguments.home}")


def _prune(arguments: argparse.Namespace, settings: BackupSettings) -> None:
    for gone in schedule.prune(_folder(settings), _name(arguments, settings), settings, _CLOCK):
        say(f"removed {gone}")


def _schedule(arguments: argparse.Namespace, settings: BackupSettings) -> None:
    target, secret = _folder(settings), _secret(settings)
    schedule.run(lambda: verbs.create(_site(arguments, settings), secret, target, _CLOCK,
                                      all_events=settings.events == "all"),
                 target, _name(arguments, settings), settings, _CLOCK)


def _site(arguments: argparse.Namespace, settings: BackupSettings) -> Site:
    return site.deployed(settings) if arguments.deployed else site.at(arguments.home, settings)


def _name(arguments: argparse.Namespace, settings: BackupSettings) -> str:
    return settings.mongo_database if arguments.deployed else str(arguments.home.name)


def _folder(settings: BackupSettings) -> Path:
    if not settings.dir:
        raise Refused("no folder for backups is given", field="dir", remedy="give --to DIR, or LEPTON_BACKUP_DIR")
    return Path(settings.dir).expanduser().resolve()


def _find(wanted: str, settings: BackupSettings) -> Path:
    return folder.find(_folder(settings) if settings.dir else None, wanted)


def _secret(settings: BackupSettings) -> Secret:
    if settings.key_file:
        return read_key(_home(settings.key_file))
    if settings.passphrase_file:
        return read_passphrase(_home(settings.passphrase_file))
    raise Refused("no key is given, and backups are never in the clear", field="key_file",
                  remedy="make one with `lepton backup key FILE`, then give --key-file FILE or LEPTON_BACKUP_KEY_FILE")


def _settings(arguments: argparse.Namespace) -> BackupSettings:
    """Settings of the environment, and what the arguments say instead."""
    settings = load(BackupSettings)
    told = {"dir": getattr(arguments, "to", None), "events": getattr(arguments, "events", None)}
    if getattr(arguments, "key_file", None) or getattr(arguments, "passphrase_file", None):
        told |= {"key_file": arguments.key_file or "", "passphrase_file": arguments.passphrase_file or ""}
    told |= {"keep": getattr(arguments, "keep", None), "keep_days": getattr(arguments, "keep_days", None)}
    return settings.model_copy(update={name: value for name, value in told.items() if value is not None})


def _home(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _absolute(text: str) -> str:
    return str(_home(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.backup", description="Backups of a Lepton stack")
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--to", type=_absolute, metavar="DIR", help="folder of the backups (LEPTON_BACKUP_DIR)")
    shared.add_argument("--home", type=_home, default=programs.HOME, help="stack of this machine (default: .local)")
    shared.add_argument("--deployed", action="store_true", help="the stack that LEPTON_ variables name instead")
    sealed = shared.add_mutually_exclusive_group()
    sealed.add_argument("--key-file", type=_absolute, help="key of the backups (LEPTON_BACKUP_KEY_FILE)")
    sealed.add_argument("--passphrase-file", type=_absolute, help="or a passphrase (LEPTON_BACKUP_PASSPHRASE_FILE)")
    commands.add_parser("key", help="make a key").set_defaults(run=_key)
    commands.choices["key"].add_argument("file", type=_home)
    made = {name: commands.add_parser(name, help=about, parents=[shared]) for name, about in (
        ("create", "take a backup now"), ("list", "backups of the folder"),
        ("verify", "read a backup whole, without a stack"), ("restore", "make a stack of a backup"),
        ("prune", "remove what is too old"), ("schedule", "take backups until ended"))}
    for name, run in zip(made, (_create, _list, _verify, _restore, _prune, _schedule), strict=True):
        made[name].set_defaults(run=run)
    for name in ("verify", "restore"):
        made[name].add_argument("backup", help="path, name in the folder, or latest")
        made[name].add_argument("--trust", type=_home, help="folder of the keys one of which must have signed")
    for name in ("create", "prune", "schedule"):
        made[name].add_argument("--keep", type=int, help="so many newest stay (LEPTON_BACKUP_KEEP)")
        made[name].add_argument("--keep-days", type=float, help="and younger ones (LEPTON_BACKUP_KEEP_DAYS)")
    for name in ("create", "schedule"):
        made[name].add_argument("--events", choices=("all", "waiting"), help="raw events (LEPTON_BACKUP_EVENTS)")
    made["create"].add_argument("--prune", action="store_true", help="then remove what is too old")
    made["verify"].add_argument("--restore", action="store_true", help="bring it back into a stack on trial too")
    made["restore"].add_argument("--replace", default="", metavar="NAME", help="lose what the stack NAME holds")
    made["restore"].add_argument("--events-from", metavar="BACKUP", help="go on with the events of a later backup")
    made["restore"].add_argument("--until", action="append", default=[], metavar="TIME|TOPIC/PARTITION@OFFSET")
    made["restore"].add_argument("--trial", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
