"""A broker on a disk of its own that can be filled: a small file system mounted where nobody else sees it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.servers import kafka
from tests.harness.servers import free_ports
from tests.harness.wait import poll_until

ISOLATED = ["unshare", "--user", "--map-root-user", "--mount"]
_MOUNT = 'mount -t tmpfs -o size="$3"m none "$1" && cp -r "$2" "$1/data" && exec sleep infinity'


@dataclass
class BrokerOnADisk:
    """`disk` is the file system as it is seen from here; `process` the broker that runs on it now."""

    disk: Path
    port: int
    command: list[str]
    process: "subprocess.Popen[bytes]"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def start_again(self) -> None:
        self.process = _start(self.command, self.port)


@contextmanager
def broker_on_a_disk(folder: Path, size_mb: int) -> Iterator[BrokerOnADisk]:
    """Such a broker while the block runs; skips the test where the kernel lets nobody but root mount."""
    port, controller = free_ports(2)
    mounted = folder / "disk"
    mounted.mkdir(parents=True)
    if subprocess.run([*ISOLATED, "mount", "-t", "tmpfs", "none", str(mounted)], capture_output=True,
                      check=False).returncode != 0:
        pytest.skip("this kernel lets nobody but root mount, not even for itself")
    config = kafka.configure(folder / "kafka", port, controller)
    data = folder / "kafka" / "data"
    config.write_text(config.read_text().replace(f"log.dirs={data}", f"log.dirs={mounted}/data"))
    # The file system lives as long as this process, whatever becomes of the broker on it.
    holder = subprocess.Popen([*ISOLATED, "sh", "-c", _MOUNT, "sh", str(mounted), str(data), str(size_mb)])
    made = None
    try:
        disk = Path(f"/proc/{holder.pid}/root{mounted}")
        poll_until(lambda: (disk / "data" / "meta.properties").exists(), "the disk", 20)
        command = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={holder.pid}",
                   *kafka.command(config)]
        made = BrokerOnADisk(disk, port, command, _start(command, port))
        yield made
    finally:
        for process in (*([made.process] if made is not None else []), holder):
            process.kill()
            process.wait()


def _start(command: list[str], port: int) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    poll_until(lambda: kafka.answers(port), "the broker on the small disk", 60)
    return process
