"""What runs in the local stack: each program's command, environment, restart policy and sign of readiness."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.local import links
from deploy.local.ports import NETWORK, PREDICTOR_NAMES, PREDICTORS, Stack
from deploy.local.processes import HOME_MARK, manager, socket_path
from deploy.local.servers import cache, database, kafka, toxiproxy
from lepton.runtime.settings import LeptonSettings, load

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".local"
"""Where the stack is kept that nobody named another place for."""

# Two cores are shared by ten processes: no library may start a thread a core, and malloc need not keep an arena a
# thread. The variables are read by numpy, torch and onnxruntime, and by glibc.
_QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2",
          "PYTHONUNBUFFERED": "1"}
_PROBE_S = 2.0
_OF_MACHINE = frozenset({"LEPTON_DEVICE", "LEPTON_PREDICTOR_DOOR"})


@dataclass(frozen=True)
class Program:
    """One supervised program; `environment` is added to the shared one.

    `restarted` is by the process manager itself; else only the watchdog restarts it. A `spare` waits to be asked for.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ports: Sequence[int]
    ready: Callable[[], bool]
    restarted: bool = False
    spare: bool = False
    stop_s: int = 14


def servers(stack: Stack) -> list[Program]:
    """Broker and database, unless settings name others, and the proxy before them where there is one.

    Fetches what is not in the tool cache.
    """
    programs = []
    if stack.breakable:
        port, ways = stack.ports[NETWORK], links.links(stack)
        file = toxiproxy.configure(stack.home / "network.json", {one.name: (one.port, one.listens) for one in ways})
        programs.append(Program("network", toxiproxy.command(file, port), {}, (port, *(one.port for one in ways)),
                                partial(toxiproxy.answers, port), restarted=True))
    if not stack.kafka_bootstrap:
        port, controller_port = stack.ports["kafka"], stack.ports["kafka-controller"]
        listeners = links.listeners(stack)
        config = kafka.configure(stack.home / "kafka", port, controller_port, listeners=listeners)
        doors = (port, controller_port, *(own for own, _ in listeners.values()))
        programs.append(Program("kafka", kafka.command(config), {}, doors,
                                partial(kafka.answers, port), restarted=True, stop_s=30))
    if not stack.mongo_url:
        mongo_port = stack.ports["mongo"]
        programs.append(Program("database", database.command(stack.home / "database", mongo_port), {}, (mongo_port,),
                                lambda: database.answers(mongo_port), restarted=True, stop_s=30))
    return programs


def services(stack: Stack) -> list[Program]:
    """The actuator and the five services, in the order in which they are best started."""
    rest = stack.ports["rest"]
    return [
        _service(stack, "actuator", "actuator", {
            "LEPTON_ACTUATOR_SUPERVISOR_SOCKET": str(socket_path(stack.home)),
            "LEPTON_ACTUATOR_UNITS": f"gateway=1..1,ingest=1..1,trainer=1..1,watchdog=1..1,predictor=1..{PREDICTORS}",
            # Whose hang nobody else would see: the others are watched by it.
            "LEPTON_ACTUATOR_WATCHED": f"watchdog={stack.admin('watchdog')}",
        }, restarted=True),
        _service(stack, "watchdog", "watchdog", {}, restarted=True),
        _service(stack, "gateway", "gateway", {
            "LEPTON_GATEWAY_PORT": str(rest), "LEPTON_GATEWAY_BOOTSTRAP_FILE": str(stack.bootstrap_file),
        }, doors=(rest,)),
        _service(stack, "ingest", "ingest", {}),
        _service(stack, "trainer", "trainer", {}),
        *(_service(stack, name, "predictor", {"LEPTON_PREDICTOR_PORT": str(stack.ports[name])},
                   doors=(stack.ports[name],), spare=name != PREDICTOR_NAMES[0]) for name in PREDICTOR_NAMES),
    ]


def backups(stack: Stack) -> list[Program]:
    """What takes backups by itself, once LEPTON_BACKUP_DIR says where to."""
    if not os.environ.get("LEPTON_BACKUP_DIR"):
        return []
    command = [sys.executable, "-m", "deploy.backup", "schedule", "--home", str(stack.home)]
    return [Program("backup", command, {}, (), lambda: manager(stack.home).process("backup").state == "RUNNING",
                    restarted=True)]


def shared_environment(stack: Stack) -> dict[str, str]:
    """What every process is told: the caller's environment, then what this installation decides."""
    # Without it, every start of every service would compile all of its own modules.
    passed = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {"LEPTON_LOG_FORMAT": "text", **_QUIET, **passed, HOME_MARK: str(stack.home), "LEPTON_HOST": "127.0.0.1",
            "LEPTON_KAFKA_BOOTSTRAP": stack.kafka, "LEPTON_MONGO_URL": stack.mongo,
            "LEPTON_KEYS_DIR": str(stack.home / "keys"), "LEPTON_TRUST_DIR": str(stack.home / "trust")}


def settings(stack: Stack, instance: str) -> LeptonSettings:
    """Those of the environment, for a command that talks to the stack's broker under the name `instance`."""
    return load(LeptonSettings).model_copy(update={"kafka_bootstrap": stack.kafka, "instance": instance})


def bare_environment(config_home: Path) -> dict[str, str]:
    """The environment of a stack that has nothing to do with the caller's: no setting of his, his own credentials file
    left alone."""
    passed = {name: value for name, value in os.environ.items()
              if not name.startswith("LEPTON_") or name in _OF_MACHINE}
    return {**passed, "XDG_CONFIG_HOME": str(config_home), "LEPTON_CACHE": str(cache.cache_dir())}


def _service(stack: Stack, instance: str, service: str, own: Mapping[str, str], *, doors: Sequence[int] = (),
             restarted: bool = False, spare: bool = False) -> Program:
    module = "deploy.actuator" if service == "actuator" else f"services.{service}"
    admin_port = stack.ports[f"admin-{instance}"]
    environment = {**links.environment(stack, instance),
                   "LEPTON_INSTANCE": instance, "LEPTON_ADMIN_PORT": str(admin_port),
                   "LEPTON_STATE_DIR": str(stack.home / "state" / instance), **own}
    return Program(instance, [sys.executable, "-m", module], environment, (*doors, admin_port),
                   lambda: _says_ready(f"{stack.admin(instance)}/readyz"), restarted, spare)


def _says_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S) as answer:  # noqa: S310 - always http on loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
