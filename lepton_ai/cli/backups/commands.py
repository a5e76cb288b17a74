"""Commands of backups: key, create, list, verify, restore, prune, schedule; the checkout does the work."""

from pathlib import Path
from typing import Annotated

import typer

from lepton_ai.cli.stack import in_checkout

backup = typer.Typer(help="Take, check and bring back backups of a stack.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option("--to", help="Folder of the backups; LEPTON_BACKUP_DIR by default.")]
KeyFile = Annotated[Path | None, typer.Option(help="Key of the backups; LEPTON_BACKUP_KEY_FILE by default.")]
Passphrase = Annotated[Path | None, typer.Option(
    "--passphrase-file", help="Or a file whose first line is a passphrase; LEPTON_BACKUP_PASSPHRASE_FILE by default.")]
Home = Annotated[Path | None, typer.Option(help="A stack of this machine; .local in the checkout by default.")]
Deployed = Annotated[bool, typer.Option("--deployed", help="The stack that LEPTON_ variables name instead.")]
Backup = Annotated[str, typer.Argument(help="A path, a name in the folder, or latest.")]
Trust = Annotated[Path | None, typer.Option(help="Folder of trusted keys, an operator of which must have signed.")]
Keep = Annotated[int | None, typer.Option(min=1, help="So many of the newest stay; LEPTON_BACKUP_KEEP by default.")]
KeepDays = Annotated[float | None, typer.Option(min=0, help="And those younger; LEPTON_BACKUP_KEEP_DAYS by default.")]
Events = Annotated[str | None, typer.Option(help="all: every raw event the topics hold; waiting: only those that "
                                                 "nobody has taken in. LEPTON_BACKUP_EVENTS by default.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(backup, name="backup")


@backup.command("key")
def key(file: Annotated[Path, typer.Argument(help="Where to put it; no file may be there.")]) -> None:
    """Make the key that backups are sealed under."""
    _run("key", [str(file.resolve())])


@backup.command("create")
def create(to: Folder = None, home: Home = None, deployed: Deployed = False, key_file: KeyFile = None,
           passphrase_file: Passphrase = None, events: Events = None,
           prune_after: Annotated[bool, typer.Option("--prune", help="Then remove what is too old.")] = False,
           keep: Keep = None, keep_days: KeepDays = None) -> None:
    """Take a backup of a running stack now."""
    _run("create", [*_shared(to, home, deployed, key_file, passphrase_file), *_told("--events", events),
                    *(["--prune"] if prune_after else []), *_told("--keep", keep), *_told("--keep-days", keep_days)])


@backup.command("list")
def show(to: Folder = None) -> None:
    """List the backups of a folder, oldest first."""
    _run("list", _told("--to", to))


@backup.command("verify")
def verify(which: Backup, to: Folder = None, home: Home = None, key_file: KeyFile = None,
           passphrase_file: Passphrase = None, trust: Trust = None,
           restored: Annotated[bool, typer.Option("--restore", help="Also bring it back into a stack on trial, and "
                                                                    "ask that for the kept predictions.")] = False,
           ) -> None:
    """Read a backup whole: every byte, digest and signature."""
    _run("verify", [which, *_shared(to, home, False, key_file, passphrase_file), *_told("--trust", trust),
                    *(["--restore"] if restored else [])])


@backup.command("restore")
def restore(which: Backup, to: Folder = None, home: Home = None, deployed: Deployed = False, key_file: KeyFile = None,
            passphrase_file: Passphrase = None, trust: Trust = None,
            replace: Annotated[str, typer.Option(metavar="NAME", help="Lose what the stack NAME holds.")] = "",
            events_from: Annotated[str | None, typer.Option(help="Go on with the events of a later backup.")] = None,
            until: Annotated[list[str] | None, typer.Option(help="End them at a time, or at TOPIC/PARTITION@OFFSET; "
                                                                 "may be given again.")] = None) -> None:
    """Make a stack of a backup, and bring it up."""
    ends = [word for end in until or [] for word in ("--until", end)]
    _run("restore", [which, *_shared(to, home, deployed, key_file, passphrase_file), *_told("--trust", trust),
                     *(["--replace", replace] if replace else []), *_told("--events-from", events_from), *ends])


@backup.command("prune")
def prune(to: Folder = None, home: Home = None, deployed: Deployed = False, keep: Keep = None,
          keep_days: KeepDays = None) -> None:
    """Remove backups that are too old."""
    _run("prune", [*_shared(to, home, deployed, None, None), *_told("--keep", keep), *_told("--keep-days", keep_days)])


@backup.command("schedule")
def schedule(to: Folder = None, home: Home = None, deployed: Deployed = False, key_file: KeyFile = None,
             passphrase_file: Passphrase = None, events: Events = None, keep: Keep = None,
             keep_days: KeepDays = None) -> None:
    """Take backups every LEPTON_BACKUP_EVERY_H hours, until Ctrl-C."""
    _run("schedule", [*_shared(to, home, deployed, key_file, passphrase_file), *_told("--events", events),
                      *_told("--keep", keep), *_told("--keep-days", keep_days)])


def _shared(to: Path | None, home: Path | None, deployed: bool, key_file: Path | None,
            passphrase_file: Path | None) -> list[str]:
    return [*_told("--to", to), *_told("--home", home), *(["--deployed"] if deployed else []),
            *_told("--key-file", key_file), *_told("--passphrase-file", passphrase_file)]


def _told(option: str, value: object) -> list[str]:
    """Paths are made absolute, since the work is done in the checkout."""
    if value is None:
        return []
    return [option, str(value.expanduser().resolve() if isinstance(value, Path) else value)]


def _run(verb: str, arguments: list[str]) -> None:
    # A backup that is named by its path is named from here.
    words = [str(Path(word).resolve()) if not word.startswith("-") and Path(word).is_file() else word
             for word in arguments]
    in_checkout("deploy.backup", verb, *words)
