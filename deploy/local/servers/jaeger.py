"""How Jaeger is built from source into the tool cache, and started with its storage in memory."""

import shutil
from pathlib import Path

from deploy.local.servers import cache
from lepton.errors import Unavailable

VERSION = "1.76.0"
SOURCE = Path(__file__).parents[1] / "jaeger"
_NAME = f"jaeger-{VERSION}"


def binary() -> Path:
    """The built binary; building takes about five minutes on two cores, once. Raises Unavailable without Go."""
    return cache.ensure(_NAME, _build) / "jaeger"


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
