"""Builds the echo and the load generator in Go once, into the cache, and runs them."""

import hashlib
import json
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from deploy.local.servers import cache
from tests.bench.wire.served import echo, with_cpu

HERE = Path(__file__).parent
FILES = ("go.mod", "go.sum", "main.go")


def program() -> Path:
    """The binary. Raises Unavailable where there is no Go, or its modules cannot be had."""
    def build(folder: Path) -> None:
        cache.run_tool(["go", "build", "-mod=readonly", "-trimpath", "-o", str(folder / "bench"), "."],
                       "building the echo and load generator of the benchmarks", "install Go 1.24 or newer", cwd=HERE)

    key = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:12]
    return cache.ensure(f"bench-{key}", build) / "bench"


def go_echo() -> AbstractContextManager[tuple[str, psutil.Process]]:
    """Address and process of an echo."""
    return echo(program(), "echo")


def load(address: str, request: bytes, *, key: str = "", **options: float | bool) -> dict[str, Any]:
    """What the generator saw; `options` are those of `bench load`, such as clients, seconds, rate, stream."""
    flags = [f"-{name}={str(value).lower()}" for name, value in options.items()]
    done = subprocess.run([program(), "load", address, f"-key={key}", *flags], input=request, capture_output=True,
                          check=True)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def measured(address: str, server: psutil.Process, request: bytes, **options: Any) -> dict[str, Any]:
    """`load`, with the server's CPU microseconds a request beside."""
    return with_cpu(server, lambda: load(address, request, **options))
