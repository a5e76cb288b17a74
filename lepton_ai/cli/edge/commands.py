"""`lepton edge serve`: the process becomes a server of one exported version."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lepton_ai._library.keras import checkout


def add_to(app: typer.Typer) -> None:
    edge = typer.Typer(name="edge", help="An exported version, served without the platform.", no_args_is_help=True)

    @edge.callback()
    def group() -> None:
        """Keeps `serve` a command of its own."""

    edge.command()(serve)
    app.add_typer(edge)


def serve(bundle: Annotated[Path, typer.Argument(help="An archive that `lepton models export` wrote.")],
          trust: Annotated[Path, typer.Option(help="Folder of the keys you trust, `<key_id>.json` each.")],
          port: Annotated[int, typer.Option(min=0, max=65535, help="Of the gRPC door; 0: a free one.")] = 8081,
          host: Annotated[str, typer.Option(help="Address to listen on; others need --keys.")] = "127.0.0.1",
          keys: Annotated[Path | None, typer.Option(help="File of API keys, one a line, who may call.")] = None,
          ) -> None:
    """Answer with one exported version, verified first, until Ctrl-C: no Kafka, no database."""
    told = {"LEPTON_PREDICTOR_BUNDLE": str(bundle.resolve()), "LEPTON_TRUST_DIR": str(trust.resolve()),
            "LEPTON_PREDICTOR_PORT": str(port), "LEPTON_HOST": host,
            **({"LEPTON_PREDICTOR_KEYS": str(keys.resolve())} if keys is not None else {})}
    os.chdir(checkout())
    os.execve(sys.executable, [sys.executable, "-m", "services.predictor.offline"], {**os.environ, **told})  # noqa: S606 - no shell
