"""How the real Kafka broker is fetched, configured and started without containers, and when it answers."""

import hashlib
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from deploy.local.servers import cache, java
from lepton.errors import Unavailable

VERSION = "4.4.0"
HERE = Path(__file__).parent
POM = HERE.parent / "pom.xml"
CONSOLE_POM = HERE / "console" / "pom.xml"

_MAVEN_REMEDY = "install Maven (Debian: apt-get install maven) and check that its repository can be reached"
_ARCHIVE_MAKING_S = 120
_FIRST_ANSWER_S = 1.0

# One node on a laptop: small internal topics, no replication to wait for, members of a group heard at once. A write
# that comes while the transaction before it is still ending is looked at again after 2 ms, not 20.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
inter.broker.listener.name=PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
add.partitions.to.txn.retry.backoff.ms=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""


def jars() -> Path:
    """The folder of the broker's jars, fetched by Maven on first use."""
    return cache.ensure(f"kafka-{VERSION}-{_digest(POM.read_bytes())}", lambda folder: _fetch(POM, folder, 300))


def console_jars() -> Path:
    """The folder of the console producer's jars, fetched by Maven on first use."""
    return cache.ensure(f"kafka-console-{_digest(CONSOLE_POM.read_bytes())}",
                        lambda folder: _fetch(CONSOLE_POM, folder, 150))


def archive() -> Path:
    """The class-data archive that starts the broker three times as fast; made once for this Java (about 15 s)."""
    key = _digest(java.find().text.encode() + class_path(jars()).encode())
    return cache.ensure(f"kafka-archive-{key}", _make_archive) / "kafka.jsa"


def class_path(folder: Path) -> str:
    # Sorted and spelt out: a class-data archive is only valid for the very same class path.
    return ":".join(str(jar) for jar in sorted(folder.glob("*.jar")))


def configure(directory: Path, port: int, controller_port: int, *,
              listeners: Mapping[str, tuple[int, int]] | None = None) -> Path:
    """Write the broker's properties under `directory` and format its storage the first time; return the file.

    `listeners`: more ports by the name of who connects to them, each with the port that is said to be its own.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data"
    config = directory / "server.properties"
    more = {name.upper().replace("-", "_"): both for name, both in (listeners or {}).items()}
    config.write_text(_PROPERTIES.format(
        port=port, controller_port=controller_port, data=data,
        listeners="".join(f",{name}://127.0.0.1:{own}" for name, (own, _) in more.items()),
        advertised="".join(f",{name}://127.0.0.1:{said}" for name, (_, said) in more.items()),
        protocols="".join(f",{name}:PLAINTEXT" for name in more)))
    if not (data / "meta.properties").exists():
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        cache.run_tool([str(java.find().binary), *_quick_flags(), "-cp", class_path(jars()), "kafka.tools.StorageTool",
                        # One word, since one id in 64 begins with a dash and would be taken for an option.
                        "format", f"--cluster-id={cluster}", "-c", str(config), "--standalone"],
                       "formatting the broker's storage", f"remove {data} if it holds nothing you need", timeout_s=120)
    return config


def command(config: Path, *, heap_mb: int = 256) -> list[str]:
    """What starts the broker; it logs to its standard output."""
    return [str(java.find().binary), *_quick_flags(heap_mb), f"-XX:SharedArchiveFile={archive()}", "-cp",
            class_path(jars()), "kafka.Kafka", str(config)]


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """True once the broker answers an ApiVersions request, which it does only when it has fully started."""
    request = struct.pack(">hhih4s", 18, 0, 1, 4, b"look")
    try:
        with socket.create_connection((host, port), timeout=_FIRST_ANSWER_S) as wire:
            wire.sendall(struct.pack(">i", len(request)) + request)
            return len(wire.recv(4)) == 4
    except OSError:
        return False


def write_console_producer(path: Path) -> Path:
    """A launcher for Kafka's own console producer, for a person who has no kcat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec "{java.find().binary}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 '
                    f'-cp "{console_jars()}/*" org.apache.kafka.tools.ConsoleProducer "$@"\n')
    path.chmod(0o755)
    return path


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _quick_flags(heap_mb: int = 256) -> list[str]:
    return [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"]


def _fetch(pom: Path, folder: Path, needed_mb: int) -> None:
    cache.require_space(folder, needed_mb, "fetching Kafka's jars")
    if shutil.which("mvn") is None:
        raise Unavailable("no Maven was found, and it fetches Kafka", place="PATH", remedy=_MAVEN_REMEDY)
    scratch = folder / "pom"
    scratch.mkdir()
    shutil.copy(pom, scratch / "pom.xml")
    cache.run_tool(["mvn", "-B", "-q", "-f", str(scratch / "pom.xml"), "dependency:copy-dependencies",
                    f"-DoutputDirectory={folder}"], "fetching Kafka's jars", _MAVEN_REMEDY, timeout_s=900)
    if not list(folder.glob("kafka*.jar")):
        raise Unavailable("Maven ended well and left no Kafka jar", place=str(folder), remedy=_MAVEN_REMEDY)


def _make_archive(folder: Path) -> None:
    """Start a throw-away broker, and let it write down its classes when it ends."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        port, controller_port = first.getsockname()[1], second.getsockname()[1]
    scratch = folder / "broker"
    config = configure(scratch, port, controller_port)
    start = [str(java.find().binary), *_quick_flags(), f"-XX:ArchiveClassesAtExit={folder / 'kafka.jsa'}", "-cp",
             class_path(jars()), "kafka.Kafka", str(config)]
    with (folder / "archive.log").open("wb") as log:
        process = subprocess.Popen(start, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _ARCHIVE_MAKING_S
            while not answers(port) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            process.wait(_ARCHIVE_MAKING_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    # A missing archive costs only speed: `-Xshare:auto` passes over it.
    shutil.rmtree(scratch, ignore_errors=True)
