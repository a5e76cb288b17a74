"""Who the caller is and where Lepton is: from values, environment variables, or the user's credentials file."""

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lepton.errors import Invalid, Missing

PROFILE: Final = "default"
KEY: Final = "AWS_ACCESS_KEY_ID"
SECRET: Final = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 -- the name of an entry, not a secret
REGION: Final = "REGION_NAME"

_KEY_FORM = re.compile(r"lk_[0-9a-f]{16}")
_SECRET_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
_URL_FORM = re.compile(r"https?://\S+")
_MAKE_ONE = "run `make up`, which writes one, or give key id, secret and region"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """`rest` is the gateway's URL, `grpc` a predictor's and `kafka` a broker's host:port ("" where the region names
    none)."""

    key_id: str
    secret: str
    rest: str
    grpc: str = ""
    kafka: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.key_id} at {self.rest})"

    @property
    def authorization(self) -> str:
        return f"Bearer {self.key_id}.{self.secret}"


def file_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where the credentials file is, whether or not it exists."""
    env = os.environ if environment is None else environment
    configured = env.get("XDG_CONFIG_HOME") or ""
    home = Path(configured) if configured else Path(env.get("HOME") or Path.home()) / ".config"
    return home / "lepton" / "credentials"


def resolve(key: str = KEY, secret: str = SECRET, region: str = REGION,
            environment: Mapping[str, str] | None = None) -> Credentials:
    """Each of the three is a value, or the name of an environment variable, or of an entry in the file, in this order.

    An environment variable is used only when it holds what Lepton gives out: real AWS credentials are never sent.
    Raises Missing for a name that leads nowhere, Invalid for a value of the wrong form.
    """
    env = os.environ if environment is None else environment
    path = file_path(env)
    entries = _read(path)
    return Credentials(
        key_id=_one("key id", key, _KEY_FORM, env, entries, path),
        secret=_one("secret", secret, _SECRET_FORM, env, entries, path),
        **_endpoints(region, env, entries, path),
    )


def _one(what: str, given: str, form: re.Pattern[str], env: Mapping[str, str],
         entries: configparser.ConfigParser, path: Path) -> str:
    if form.fullmatch(given):
        return given
    in_environment = env.get(given)
    if in_environment is not None and form.fullmatch(in_environment):
        return in_environment
    in_file = entries.get(PROFILE, given, fallback=None) if given else None
    if in_file is not None:
        if form.fullmatch(in_file):
            return in_file
        raise Invalid(f"the {what} in the credentials file is not one of Lepton's", field=given, place=str(path),
                      remedy=_MAKE_ONE)
    # The value itself is never repeated: it may be a secret that was misspelt.
    if in_environment is not None:
        raise Invalid(f"the environment variable named as {what} holds none of Lepton's, so it was not sent",
                      field=what, remedy=_MAKE_ONE)
    raise Missing(f"no {what}: what was given is neither one nor the name of an environment variable or entry",
                  field=what, place=str(path), remedy=_MAKE_ONE)


def _endpoints(given: str, env: Mapping[str, str], entries: configparser.ConfigParser, path: Path) -> dict[str, str]:
    candidates = [given, env.get(given, ""), entries.get(PROFILE, given, fallback="") if given else ""]
    for candidate in candidates:
        if _URL_FORM.fullmatch(candidate):
            return {"rest": candidate.rstrip("/")}
        section = f"region {candidate}"
        if candidate and entries.has_section(section):
            rest = entries.get(section, "rest", fallback="")
            if not _URL_FORM.fullmatch(rest):
                raise Invalid(f"[{section}] names no gateway", field="rest", place=str(path),
                              remedy="write rest = http://HOST:PORT")
            return {"rest": rest.rstrip("/"), "grpc": entries.get(section, "grpc", fallback=""),
                    "kafka": entries.get(section, "kafka", fallback="")}
    raise Missing(f"no region {given!r}: it is neither a URL nor a name that leads to a [region …] section",
                  field="region", place=str(path), remedy=_MAKE_ONE)


def _read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if path.exists():
            parser.read_string(path.read_text("utf-8"), source=str(path))
    except (configparser.Error, OSError, UnicodeDecodeError) as failure:
        # The parser's own message would quote the line, and the line may be a secret.
        raise Invalid(f"the credentials file cannot be read ({type(failure).__name__})", place=str(path),
                      remedy="correct or remove it, then run `make up`") from None
    return parser
