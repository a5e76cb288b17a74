"""Commands of models: the list of them and their cards, shed, train, promote, rollback."""

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lepton.errors import Invalid, Missing
from lepton_ai import _progress
from lepton_ai._library.exporting import version_named
from lepton_ai._runs import serving
from lepton_ai._transport import Transport
from lepton_ai.cli import data
from lepton_ai.cli.library import commands as library
from lepton_ai.cli.runs import live
from lepton_ai.cli.session import Form, Output, ask, parse_json, recover, say, show

Name = Annotated[str, typer.Argument(help="Name of a model; it is its pipeline's.")]
VERSIONS = ("version", "status", "family", "metrics", "lineage.parent_version", "lineage.train_rows", "created_at")


class _Named(TyperGroup):
    """`lepton models` lists; a first word that is none of the commands is a model's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else ["list", *args])


models = typer.Typer(cls=_Named, help="Models, the versions of one (`lepton models NAME`), and a version's card.")


def add_to(app: typer.Typer) -> None:
    library.add_to(models)
    app.add_typer(models, name="models")
    for command in (train, promote, rollback):
        app.command()(command)


@models.command("list")
def list_models(name: Annotated[str, typer.Argument(help="Show the versions of this one.")] = "",
           output: Output = Form.TABLE) -> None:
    """Show models, or the versions of one."""
    if not name:
        data.get(data.Kind.MODELS, "", output, limit=20)
        return

    async def read(transport: Transport) -> Any:
        return await transport.get(f"/v1/models/{name}")
    state = ask(read)
    if output is not Form.TABLE:
        show(state, output)
        return
    say(f"{name}: champion {state['champion'] or 'none'}, before it {state['previous_champion'] or 'none'}")
    show(sorted(state["versions"], key=lambda one: -int(one["version"])), output, VERSIONS)


@models.command()
def wait(name: Name, seconds: Annotated[float, typer.Option(min=0, help="For so long at most.")] = 900) -> None:
    """Wait until a version of it answers requests; exit code 1 when the run that was to make the first one fails."""
    version = ask(lambda transport: serving.served(transport, name, seconds, _progress.default()))
    say(f"{name}: version {version} answers")


@models.command()
def card(which: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The champion, without a version.")],
         save: Annotated[Path | None, typer.Option(help="Write it with pictures and figures to this zip.")] = None,
         ) -> None:
    """Show a version's model card, or save it with its pictures."""
    async def read(transport: Transport) -> bytes:
        name, version = await version_named(transport, which)
        file = "card.zip" if save else "card.md"
        return (await transport.call("GET", f"/v1/models/{name}/versions/{version}/card/{file}")).content
    found: bytes = ask(read)
    if save is None:
        say(found.decode())
        return
    save.write_bytes(found)
    say(f"{save}: {len(found)} bytes")


@models.command()
def shed(name: Annotated[str, typer.Argument(help="Name of a model, unless --all.")] = "",
         every: Annotated[bool, typer.Option("--all", help="All models that have priority levels.")] = False,
         keep: Annotated[int, typer.Option(min=1, max=16, help="The last priority that is answered.")] = 1,
         unnamed: Annotated[bool, typer.Option("--unnamed", help="Of the priority after it, turn those away too that "
                                                                "name none.")] = False,
         seconds: Annotated[float, typer.Option("--for", min=1, max=86_400, help="Seconds.")] = 600,
         end: Annotated[bool, typer.Option("--end", help="Answer all of them again.")] = False) -> None:
    """Turn requests of low priority away, for a time; or answer them again."""
    if bool(name) == every:
        raise typer.BadParameter("give either the name of a model or --all")
    arguments = {"what": "shed"} if end else {"keep": str(keep), "unnamed": "true" if unnamed else "false",
                                              "for_s": f"{seconds:g}"}
    recover(name or "all models", {"action": "RESTORE" if end else "SHED", "target": f"model:{name or '*'}",
                                   "arguments": arguments, "cause": "operator"})


def train(name: Name, family: Annotated[str, typer.Option(help="The Pipeline's, when left out.")] = "",
          parameters: Annotated[str, typer.Option(help="As a JSON object; the Pipeline's, when left out.")] = "{}",
          fine_tune: Annotated[bool, typer.Option("--fine-tune", help="Start from the champion.")] = False,
          start: Annotated[str, typer.Option("--from", help="Start from MODEL or MODEL:VERSION.")] = "",
          freeze: Annotated[list[str] | None, typer.Option(help="Weights that stay (layers.0.*); repeatable.")] = None,
          head: Annotated[str, typer.Option(help="The last layer of what it starts from: keep or replace.")] = "",
          lora: Annotated[int, typer.Option(min=0, max=256, help="Rank of adapters; 0: none.")] = 0,
          snapshot: Annotated[str, typer.Option(help="Learn from this snapshot's rows.")] = "",
          promote: Annotated[bool, typer.Option(help="Serve it when it passes its gate.")] = True,
          search: Annotated[str, typer.Option(help="Look for parameters first, as model.search says it.")] = "{}",
          priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = 0,
          follow: Annotated[bool, typer.Option("--follow", help="Show it live until it ends.")] = False) -> None:
    """Ask for one training run; follow it with `--follow`, or later with `lepton runs follow RUN`."""
    model, _, version = start.partition(":")
    if version and not version.isdecimal():
        raise Invalid(f"{version!r} is no version", field="--from", remedy=f"write --from {model}:3, or --from {model}")
    transfer = {**({"freeze": freeze} if freeze else {}), **({"head": head} if head else {}),
                **({"lora": {"rank": lora}} if lora else {})}
    body = {"kind": "fine_tune" if fine_tune or start or transfer else "train", "family": family, "promote": promote,
            "snapshot": snapshot, "parameters": parse_json(parameters, "--parameters"), "priority": priority,
            "parent_model": model, "parent_version": int(version or 0), "transfer": transfer,
            "search": parse_json(search, "--search"), "command_id": f"cli-{uuid.uuid4().hex}"}

    async def post(transport: Transport) -> Any:
        return await transport.post(f"/v1/models/{name}/train", body)
    run_id = ask(post)["run_id"]
    say(f"{name}: run {run_id} asked for")
    if follow:
        live.follow(run_id)


def promote(name: Name, version: Annotated[int, typer.Argument(min=1)]) -> None:
    """Make a kept version champion."""
    async def post(transport: Transport) -> Any:
        return await transport.post(f"/v1/models/{name}/promote", {"version": version})
    ask(post)
    say(f"{name}: version {version} is to be champion")


def rollback(name: Name) -> None:
    """Leave the champion for the version before it."""
    async def post(transport: Transport) -> Any:
        state = await transport.get(f"/v1/models/{name}")
        if not state["previous_champion"]:
            raise Missing(f"{name} has no version to return to", field="previous_champion")
        return await transport.post(f"/v1/models/{name}/rollback", {"from_version": state["champion"]},
                                    repeatable=False)
    say(f"{name}: command {ask(post)['command_id']} sent; see `lepton get recovery`")
