"""The user's credentials file: where it is, and what `up` writes into it."""

import configparser
import os
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import Stack
from lepton.contracts import apikeys
from lepton.errors import Invalid, Missing, Refused

REGION = "local"
KEY_ID, SECRET, REGION_NAME = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "REGION_NAME"


@dataclass(frozen=True, repr=False)
class Key:
    """An API key."""

    key_id: str
    secret: str

    @property
    def text(self) -> str:
        """The key as it is shown to a person."""
        return f"{self.key_id}.{self.secret}"

    @property
    def header(self) -> dict[str, str]:
        return {"authorization": apikeys.bearer(self.key_id, self.secret)}


def path() -> Path:
    """`lepton/credentials` in the user's configuration folder."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lepton" / "credentials"


def stored() -> Key | None:
    """The key in the credentials file, when there is one."""
    parser = _read()
    default = parser["default"] if parser.has_section("default") else {}
    key_id, secret = default.get(KEY_ID), default.get(SECRET)
    return Key(key_id, secret) if key_id and secret else None


def from_bootstrap(stack: Stack) -> Key:
    """The admin key that the gateway made at its first start. Raises Missing when it made none."""
    if not stack.bootstrap_file.exists():
        raise Missing("the gateway has written no admin key: this database had keys before",
                      place=str(stack.bootstrap_file), remedy=f"put a key of yours into {path()}")
    try:
        return Key(*apikeys.parse_bearer(f"Bearer {stack.bootstrap_file.read_text().strip()}"))
    except Refused as error:
        raise Invalid("the admin key cannot be read", place=str(stack.bootstrap_file)) from error


def write(stack: Stack, key: Key | None) -> bool:
    """Put the key and the addresses of the local region into the file, keeping what else is there; True when changed.

    The file is readable by its owner alone from the moment it exists.
    """
    parser = _read()
    before = {section: dict(parser[section]) for section in parser.sections()}
    if not parser.has_section("default"):
        parser.add_section("default")
    if key is not None:
        parser["default"].update({KEY_ID: key.key_id, SECRET: key.secret})
    parser["default"][REGION_NAME] = REGION
    parser[f"region {REGION}"] = {"rest": stack.rest, "grpc": stack.grpc, "kafka": stack.kafka}
    if before == {section: dict(parser[section]) for section in parser.sections()}:
        return False
    path().parent.mkdir(parents=True, exist_ok=True)
    draft = path().with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as sink:
        parser.write(sink)
    draft.replace(path())
    return True


def _read() -> configparser.ConfigParser:
    # A secret may hold a percent sign, and names are upper case.
    parser = configparser.ConfigParser(interpolation=None, default_section="-")
    parser.optionxform = str  # type: ignore[assignment,method-assign] # the documented way to keep case
    try:
        parser.read(path())
    except configparser.Error as error:
        raise Invalid("the credentials file cannot be read", place=str(path()),
                      remedy="correct or remove it") from error
    return parser
