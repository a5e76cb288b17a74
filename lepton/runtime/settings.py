"""Which environment variables configure a process; the only reader of the environment.

Shared settings are read from `LEPTON_<NAME>`; those a service adds to them from `LEPTON_<SERVICE>_<NAME>`. A shared one
may be given for one service alone by the longer name, which wins.
"""

import difflib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lepton.errors import Invalid, Missing

PREFIX = "LEPTON_"
EXIT_SETTINGS = 2
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to reach a Kafka cluster. `password` is kept out of the representation."""

    bootstrap: str
    client_id: str
    security: SecurityProtocol = "PLAINTEXT"
    mechanism: Mechanism = "PLAIN"
    username: str = ""
    password: SecretStr | None = None
    ca_file: str = ""


class LeptonSettings(BaseSettings):
    """What every service can be told; a service's own class adds its fields and names itself in `service`."""

    service: ClassVar[str] = "lepton"
    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    instance: str = Field(default="", pattern=r"^[a-z][a-z0-9-]{0,62}$")
    """Name of this process, unique in the installation; the service's name when not given."""

    host: str = "127.0.0.1"
    """Address the doors of this process listen on."""

    admin_port: int = Field(default=0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics; 0 takes a free one."""

    kafka_bootstrap: str = Field(default="127.0.0.1:9092", pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$")
    """Kafka brokers as host:port, separated by commas."""

    kafka_security: SecurityProtocol = "PLAINTEXT"
    """How to talk to Kafka."""

    kafka_mechanism: Mechanism = "PLAIN"
    """SASL mechanism, where kafka_security begins with SASL."""

    kafka_username: str = ""
    """SASL user."""

    kafka_password: SecretStr = SecretStr("")
    """SASL password."""

    kafka_ca_file: str = ""
    """PEM file of the authority that signed the brokers' certificates; the system's authorities when empty."""

    kafka_replication: int = Field(default=1, ge=1, le=9)
    """Replication factor of topics the platform creates; 3 in production."""

    mongo_url: SecretStr = SecretStr("mongodb://127.0.0.1:27017")
    """Address of the database that speaks the MongoDB protocol, with user and password when it asks for them."""

    mongo_database: str = Field(default="lepton", pattern=r"^[A-Za-z0-9_-]{1,38}$")
    """Name of the database."""

    keys_dir: Path = Path(".local/keys")
    """Folder of this process's own Ed25519 identity."""

    trust_dir: Path = Path(".local/trust")
    """Folder of the public keys that are trusted, and for what."""

    state_dir: Path = Path(".local/state")
    """Folder for what this process may keep on disk and can rebuild."""

    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where models run: cuda fails loudly where there is none, auto takes it where there is. The trainer learns on one
    only when told cuda: a run gives the same bytes on whatever machine it goes on."""

    otlp_endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """OTLP gRPC endpoint for traces, metrics and logs (http://127.0.0.1:4317); nothing is exported when empty."""

    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of traces that begin here which are sampled; a caller's decision always wins."""

    heartbeat_interval_s: float = Field(default=0.5, gt=0, le=60)
    """Seconds between two heartbeats."""

    drain_s: float = Field(default=8.0, ge=0, le=3600)
    """Seconds that work in progress may take to finish once the process was asked to stop."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""

    log_format: Literal["json", "text"] = "json"
    """Form of a log line."""

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_service(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values if values.get("instance") else {**values, "instance": cls.service}

    @model_validator(mode="after")
    def _credentials_complete(self) -> "LeptonSettings":
        complete = self.kafka_username and self.kafka_password.get_secret_value()
        if self.kafka_security.startswith("SASL") and not complete:
            raise ValueError("LEPTON_KAFKA_USERNAME and LEPTON_KAFKA_PASSWORD are needed when LEPTON_KAFKA_SECURITY is "
                             f"{self.kafka_security}")
        return self

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, _Environment(settings_cls))

    def broker_options(self) -> BrokerOptions:
        return BrokerOptions(
            bootstrap=self.kafka_bootstrap, client_id=self.instance, security=self.kafka_security,
            mechanism=self.kafka_mechanism, username=self.kafka_username, password=self.kafka_password,
            ca_file=self.kafka_ca_file,
        )


Settings = TypeVar("Settings", bound=LeptonSettings)


def own_prefix(settings_class: type[LeptonSettings]) -> str:
    return f"{PREFIX}{settings_class.service.upper()}_"


def variables(settings_class: type[LeptonSettings], field: str) -> tuple[str, ...]:
    """Names of the variables a field is read from, the winning one first."""
    own = own_prefix(settings_class) + field.upper()
    return (own, PREFIX + field.upper()) if field in LeptonSettings.model_fields else (own,)


def load(settings_class: type[Settings]) -> Settings:
    """Settings from the environment; else one line for each problem on stderr, naming variable and remedy, and exit 2.

    Values are never printed: one of them may be a secret.
    """
    found = _found(settings_class)
    if not isinstance(found, list):
        return found
    for problem in found:
        sys.stderr.write(f"{settings_class.service}: {problem}\n")
    raise SystemExit(EXIT_SETTINGS)


def load_optional(settings_class: type[Settings]) -> Settings:
    """`load` for what a process can do without: raises Invalid, with the same problems, and the process goes on."""
    found = _found(settings_class)
    if isinstance(found, list):
        raise Invalid("; ".join(found))
    return found


def secret_of(name: str) -> str:
    """Value of a variable that a spec names. Raises Missing; the value is for the one who asks and for no log."""
    value = os.environ.get(name, "")
    if not value:
        raise Missing(f"the environment variable {name} is not set here", field=name,
                      remedy="set it where the process is started, and start it again")
    return value


def _found(settings_class: type[Settings]) -> Settings | list[str]:
    """The settings, or what is wrong with them."""
    unknown = _unknown(settings_class, os.environ)
    try:
        settings = settings_class()
    except ValidationError as error:
        return [*(_problem(settings_class, one["loc"], one["msg"]) for one in error.errors()), *unknown]
    return unknown or settings


class _Environment(PydanticBaseSettingsSource):
    """Reads each field from the first of its variables that is set."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        settings_class = self.settings_cls
        if not issubclass(settings_class, LeptonSettings):
            raise TypeError(f"{settings_class.__name__} is not a LeptonSettings")
        for name in variables(settings_class, field_name):
            if name in os.environ:
                return os.environ[name], field_name, self.field_is_complex(field)
        return None, field_name, False

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        # What is no JSON is no fitting value either: the check of its type says so, with the name of the variable.
        try:
            return super().decode_complex_value(field_name, field, value)
        except json.JSONDecodeError:
            return value

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, is_complex = self.get_field_value(field, name)
            if value is not None:
                found[key] = self.prepare_field_value(name, field, value, is_complex)
        return found


def _problem(settings_class: type[LeptonSettings], location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    field = str(location[0])
    names = variables(settings_class, field)
    name = next((one for one in names if one in os.environ), names[-1])
    about = settings_class.model_fields[field].description if field in settings_class.model_fields else None
    meaning = f" ({about})" if about else ""
    return f"{name}: {message}; remedy: set {name} to a fitting value or unset it{meaning}"


def _unknown(settings_class: type[LeptonSettings], environment: Mapping[str, str]) -> list[str]:
    """Variables with this service's own prefix that mean nothing: a misspelt setting must not pass in silence."""
    known = [name for field in settings_class.model_fields for name in variables(settings_class, field)]
    problems = []
    for name in sorted(environment):
        if name.startswith(own_prefix(settings_class)) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "unset it"
            problems.append(f"{name}: no such setting; remedy: {hint}")
    return problems
