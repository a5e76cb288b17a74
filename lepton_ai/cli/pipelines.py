"""Commands that change how a pipeline runs, not what it says."""

from typing import Annotated, Any

import typer

from lepton_ai._transport import Transport
from lepton_ai.cli.session import ask, recover, say

Name = Annotated[str, typer.Argument(help="Name of a pipeline.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(name="pipelines", help="Change how a pipeline runs.", no_args_is_help=True)
    group.command()(repartition)
    group.command()(pause)
    group.command()(resume)
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


def pause(name: Name) -> None:
    """Take no more events and labels of a pipeline in, until `resume`; they wait on their topics, and none is lost."""
    _order("PAUSE", name)


def resume(name: Name) -> None:
    """Let a line go on that was paused, or that stopped because too much was refused.

    For a minute refusals do not count. Mend the cause first, and see `lepton dead-letters list`.
    """
    _order("RESUME", name)


def _order(action: str, name: str) -> None:
    recover(name, {"action": action, "target": f"pipeline:{name}", "arguments": {}, "cause": "operator"})
