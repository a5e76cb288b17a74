"""`lepton rollout`: how far a candidate is, and its end in one command, either way."""

from typing import Annotated, Any

import typer

from lepton_ai._transport import Transport
from lepton_ai.cli.session import Form, Output, ask, say, show

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model; it is its pipeline's.")]
Note = Annotated[str, typer.Option(help="Why; kept with the rollout.")]
COLUMNS = ("version", "answered", "failed", "compared", "agreed", "refused")


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(name="rollout", help="Candidates that are tried beside the champion.", no_args_is_help=True)
    group.command()(status)
    group.command()(abort)
    group.command()(promote)
    app.add_typer(group)


def status(model: Model, output: Output = Form.TABLE) -> None:
    """Show the rollout under way, or how the last one ended."""
    async def read(transport: Transport) -> Any:
        return await transport.get(f"/v1/models/{model}/rollout")
    told = ask(read)
    if output is not Form.TABLE:
        show(told, output)
        return
    steps = len(told["terms"]["shares"]) if "terms" in told else 0
    how = f"step {told['step'] + 1} of {steps}, {told['share']:.0%} of entities" if told["share"] else "in the shadow"
    now = how if told["state"] == "RUNNING" else f"{told['state'].lower()} by {told['by']}"
    say(f"{model}: candidate {told['candidate']} beside champion {told['champion']}, "
        f"{told['strategy'].lower()}, {now}" + (f": {told['note']}" if told["note"] else ""))
    show(told["measured"], output, COLUMNS)


def abort(model: Model, note: Note = "") -> None:
    """Leave the candidate: the champion answers alone again."""
    _end(model, "abort", note)
    say(f"{model}: its rollout is to end, the champion answers alone")


def promote(model: Model, note: Note = "") -> None:
    """Make the candidate champion now. `lepton rollback MODEL` leaves it again."""
    _end(model, "promote", note)
    say(f"{model}: the candidate is to be champion")


def _end(model: str, how: str, note: str) -> None:
    async def post(transport: Transport) -> Any:
        return await transport.post(f"/v1/models/{model}/rollout/{how}", {"note": note})
    ask(post)
