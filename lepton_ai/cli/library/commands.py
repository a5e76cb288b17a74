"""Commands that take a version out of the platform as a file, and that tell whether such a file is what it was."""

from pathlib import Path
from typing import Annotated

import typer

from lepton.clock import SystemClock
from lepton.contracts.bundles import exported
from lepton.contracts.signing import TrustStore
from lepton.errors import Missing
from lepton_ai._library import exporting
from lepton_ai._library.starters import STARTERS
from lepton_ai._transport import Transport
from lepton_ai.cli.session import Form, ask, say, show, with_client


def add_to(models: typer.Typer) -> None:
    for command in (starter, export, verify):
        models.command()(command)
    models.command("import")(bring)


def starter(name: Annotated[str, typer.Argument(help="Which one; all are listed without.")] = "") -> None:
    """Have a served model to begin with, learnt from bundled data, or list those there are."""
    if not name:
        show([{"name": one, "family": told.model["family"], "about": told.about} for one, told in STARTERS.items()],
             Form.TABLE, ("name", "family", "about"))
        return
    say(str(with_client(lambda client: client.starter(name))))


def bring(file: Annotated[Path, typer.Argument(help="An ONNX file, or one of Keras.")],
          pipeline: Annotated[str, typer.Option(help="Whose fields it takes and whose label it answers.")],
          classes: Annotated[str, typer.Option(help="Of its probabilities, in order: a,b,c.")] = "",
          promote: Annotated[bool, typer.Option(help="Serve it when it passes its gate.")] = False) -> None:
    """Have a file that was trained elsewhere as a version: checked, measured and gated like any other."""
    named = [one.strip() for one in classes.split(",") if one.strip()]
    say(str(with_client(lambda client: client.import_model(file, pipeline, classes=named, promote=promote))))


def export(which: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The champion, without a version.")],
           file: Annotated[Path, typer.Argument(help="The zip archive to write.")]) -> None:
    """Write a version as one signed archive that runs offline with onnxruntime alone."""
    async def written(transport: Transport) -> tuple[str, int, int]:
        name, version = await exporting.version_named(transport, which)
        return name, version, await exporting.export(transport, name, version, file)
    name, version, size = ask(written)
    say(f"{file}: {name} version {version}, {size} bytes")


def verify(file: Annotated[Path, typer.Argument(help="An archive that `lepton models export` wrote.")],
           trust: Annotated[Path, typer.Option(help="Folder of the keys you trust, `<key_id>.json` each.")]) -> None:
    """Tell whether an exported archive is, byte for byte, what a trusted trainer signed."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Missing(f"cannot be read: {error.strerror}", place=str(file)) from error
    manifest = exported.verified(data, TrustStore.load(trust), SystemClock().now())
    say(f"{file}: {manifest.model} version {manifest.version} ({manifest.family}), as it was signed")
