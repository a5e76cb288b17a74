"""How grpcurl is had: one on PATH, else built from the Go module proxy into the tool cache."""

import shutil
from pathlib import Path

from deploy.local.servers import cache
from lepton.errors import Unavailable

MODULE = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
_NAME = "grpcurl-1.9.3"
_REMEDY = "install Go (Debian: apt-get install golang-go), or grpcurl itself"


def binary() -> Path:
    """Raises Unavailable when there is neither grpcurl nor a Go that can build it."""
    found = shutil.which("grpcurl")
    return Path(found) if found else cache.ensure(_NAME, _build) / "grpcurl"


def present() -> bool:
    return shutil.which("grpcurl") is not None or cache.cached(_NAME) is not None


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable("no Go was found, and it builds grpcurl", place="PATH", remedy=_REMEDY)
    cache.run_tool(["go", "install", MODULE], "building grpcurl", _REMEDY, env={"GOBIN": str(folder)})
