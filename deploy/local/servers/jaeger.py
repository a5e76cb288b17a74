"""How Jaeger is built from source into the tool cache, and started with its storage in memory."""

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from deploy.local.servers import cache
from lepton.errors import Unavailable

VERSION = "1.76.0"
SOURCE = Path(__file__).parents[1] / "jaeger"
CONFIG = SOURCE / "config.yaml"
_NAME = f"jaeger-{VERSION}"

QUIET = {"OTEL_TRACES_SAMPLER": "always_off"}
"""Jaeger would trace itself otherwise, to a collector that is not there."""


def binary() -> Path:
    """The built binary; building takes about five minutes on two cores, once. Raises Unavailable without Go."""
    return cache.ensure(_NAME, _build) / "jaeger"


def command() -> list[str]:
    """What starts Jaeger with its storage in memory."""
    return [str(binary()), "--config", str(CONFIG)]


def ports(query: int, query_grpc: int, otlp: int, health: int) -> dict[str, str]:
    """The environment that moves Jaeger from its default ports to these."""
    return {"LEPTON_JAEGER_QUERY_PORT": str(query), "LEPTON_JAEGER_QUERY_GRPC_PORT": str(query_grpc),
            "LEPTON_JAEGER_OTLP_PORT": str(otlp), "LEPTON_JAEGER_HEALTH_PORT": str(health)}


def answers(query_port: int) -> bool:
    """True once traces can be asked for."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{query_port}/api/services", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def present() -> bool:
    return cache.cached(_NAME) is not None


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable("no Go was found, and it builds Jaeger", place="PATH",
                          remedy="install Go 1.24 or newer (Debian: apt-get install golang-go)")
    cache.require_space(folder, 4000, "building Jaeger")
    cache.run_tool(["go", "build", "-mod=readonly", "-o", str(folder / "jaeger"),
                    "github.com/jaegertracing/jaeger/cmd/jaeger"], "building Jaeger",
                   "check that the Go module proxy can be reached", cwd=SOURCE, timeout_s=3000)
