"""How toxiproxy is built from the Go module proxy, configured and started: the network of a breakable stack."""

import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from deploy.local.servers import cache
from lepton.errors import Unavailable

MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"
_NAME = "toxiproxy-2.12.0"
_REMEDY = "install Go (Debian: apt-get install golang-go) and check that its module proxy can be reached"


def binary() -> Path:
    """Built on first use, within a minute. Raises Unavailable without Go."""
    return cache.ensure(_NAME, _build) / "server"


def configure(file: Path, proxies: Mapping[str, tuple[int, int]]) -> Path:
    """Write which proxy listens on the first port of each and passes on to the second, both on loopback."""
    file.write_text(json.dumps([
        {"name": name, "listen": f"127.0.0.1:{listens}", "upstream": f"127.0.0.1:{upstream}", "enabled": True}
        for name, (listens, upstream) in sorted(proxies.items())], indent=1) + "\n")
    return file


def command(config: Path, port: int) -> list[str]:
    """What starts it; it is told of faults on `port`."""
    return [str(binary()), "-host", "127.0.0.1", "-port", str(port), "-config", str(config)]


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable("no Go was found, and it builds toxiproxy", place="PATH", remedy=_REMEDY)
    cache.run_tool(["go", "install", MODULE], "building toxiproxy", _REMEDY, env={"GOBIN": str(folder)})
