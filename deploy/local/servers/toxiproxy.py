"""How the network of a breakable stack is built, configured and started: toxiproxy, with a fault that is our own."""

import hashlib
import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from deploy.local.servers import cache
from lepton.errors import Unavailable

SOURCE = Path(__file__).parents[1] / "network"
_REMEDY = "install Go (Debian: apt-get install golang-go) and check that its module proxy can be reached"


def binary() -> Path:
    """Built on first use, within a minute, and again once its source changed. Raises Unavailable without Go."""
    return cache.ensure(_name(), _build) / "server"


def present() -> bool:
    """Whether nothing has to be built."""
    return cache.cached(_name()) is not None


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
    cache.run_tool(["go", "build", "-mod=readonly", "-o", str(folder / "server"), "."], "building toxiproxy", _REMEDY,
                   cwd=SOURCE)


def _name() -> str:
    told = hashlib.sha256()
    for file in sorted(one for one in SOURCE.iterdir() if one.suffix in (".go", ".mod", ".sum")):
        told.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"toxiproxy-{told.hexdigest()[:12]}"
