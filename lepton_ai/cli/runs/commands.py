"""`lepton runs`: the training runs there were and are, how one went or goes, and the end of one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lepton_ai import AsyncLeptonClient
from lepton_ai._models import Run
from lepton_ai._transport import Transport
from lepton_ai.cli.runs import live
from lepton_ai.cli.session import Form, Limit, Output, ask, say, show, with_client

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, as `lepton train` said it.")]
COLUMNS = ("run_id", "model", "kind", "state", "priority", "stage", "epoch", "epochs", "version", "metrics",
           "failure.name", "failure.message")


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(name="runs", help="Training runs: listed, followed, as logs, cancelled.", no_args_is_help=True)
    group.command("list")(list_)
    group.command("show")(show_)
    group.command()(follow)
    group.command()(logs)
    group.command()(cancel)
    app.add_typer(group)


def list_(model: Annotated[str, typer.Argument(help="Only of this model.")] = "", output: Output = Form.TABLE,
          limit: Limit = 20) -> None:
    """Show runs, newest first."""
    of: dict[str, str | int] = {"model": model} if model else {}

    async def read(transport: Transport) -> Any:
        return await transport.get("/v1/runs", limit=limit, **of)
    show(ask(read), output, COLUMNS)


def show_(run: RunId, output: Output = Form.YAML) -> None:
    """Show one run: what was asked, how far it is, why it failed and what to do."""
    async def read(transport: Transport) -> Any:
        return await transport.get(f"/v1/runs/{run}")
    show(ask(read), output)


def follow(run: RunId) -> None:
    """Show a run live until it ends: epochs, losses, stages. Exit code 1 unless it succeeded."""
    live.follow(run)


def logs(run: RunId, to: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's files.")] = None,
         live_on: Annotated[bool, typer.Option("--follow", help="Go on until the run has ended.")] = False,
         output: Output = Form.TABLE) -> None:
    """Show how a run went, epoch by epoch, or write it where TensorBoard looks."""
    if to is None:
        async def read(transport: Transport) -> Any:
            return (await transport.get(f"/v1/runs/{run}/course"))["points"]
        show(ask(read), output, ("epoch", "at", "stage", "figures"))
        return

    async def write(client: AsyncLeptonClient) -> Path:
        folder = await client.runs.write_logs(run, to)
        if live_on:
            async for _ in client.runs.follow(run):
                await client.runs.write_logs(run, to)
        return folder
    say(f"{run}: written to {with_client(write)}; see it with: tensorboard --logdir {to}")


def cancel(run: RunId, wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended.")] = False) -> None:
    """End a run that waits or runs; its process ends, and nothing of it is published."""
    async def end(client: AsyncLeptonClient) -> Run:
        asked = await client.runs.cancel(run)
        if wait:
            async for now in client.runs.follow(run):
                asked = now
        return asked
    found = with_client(end)
    say(live.ending(found) if found.ended else f"{run}: its end is asked for")
