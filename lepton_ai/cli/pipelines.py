"""Commands that change how a pipeline runs, not what it says."""

from typing import Annotated, Any

import typer

from lepton_ai._transport import Transport
from lepton_ai.cli.session import ask, say

Name = Annotated[str, typer.Argument(help="Name of a pipeline.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(name="pipelines", help="Change how a pipeline runs.", no_args_is_help=True)
    group.command()(repartition)
    # A group of a single command would otherwise be that command.
    group.callback()(lambda: None)
    app.add_typer(group)


def repartition(name: Name, partitions: Annotated[int, typer.Option("--partitions", "-p", min=1, max=1024,
                                                                    help="How many its topics are to have.")]) -> None:
    """Spread a pipeline over other partitions: drained, then moved to topics of a new generation; nothing is lost."""
    async def move(transport: Transport) -> dict[str, Any]:
        answer = await transport.call("POST", f"/v1/pipelines/{name}/repartition", json={"partitions": partitions},
                                      repeatable=False, timeout=90)
        return dict(answer.json())

    moved = ask(move)
    say(f"{name}: generation {moved['generation']} with {moved['partitions']} partitions")
    if not moved["drained"]:
        say("  records still waited on the former topics; they are being carried over")
