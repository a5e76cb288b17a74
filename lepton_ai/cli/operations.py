"""Commands of operators: incidents, quarantine, keys, and processes that are drained."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.clock import SystemClock
from lepton_ai._transport import Transport
from lepton_ai.cli import data
from lepton_ai.cli.incidents import reports
from lepton_ai.cli.session import Form, Limit, Output, ask, recover, say, show

KEY_COLUMNS = ("key_id", "scopes", "description", "revoked", "created_by", "created_at")
SCOPES = "read, write, predict, train or admin"
_FOLLOW_S = 1.0

quarantine = typer.Typer(help="Keep the rows of a source, or a field, out; or let them in again.", no_args_is_help=True)
keys = typer.Typer(help="API keys: create, list, revoke, throttle, release.", no_args_is_help=True)
services = typer.Typer(help="Processes of the platform: drain, release.", no_args_is_help=True)
Pipeline = Annotated[str, typer.Argument(help="Name of a pipeline.")]
Instance = Annotated[str, typer.Argument(help="As `lepton get instances` names it: a predictor or a gateway.")]
KeyId = Annotated[str, typer.Argument(help="As `lepton keys list` shows it.")]
Source = Annotated[str, typer.Argument(help="A producer, as its events name it (ce_source).")]
Field = Annotated[str, typer.Option("--field", help="Instead of a source: a field that rows can do without.")]


def add_to(app: typer.Typer) -> None:
    app.command()(incidents)
    app.command()(dependencies)
    app.add_typer(quarantine, name="quarantine")
    app.add_typer(keys, name="keys")
    app.add_typer(services, name="services")


WORDS = ("approve", "deny", "report")


def incidents(incident_id: Annotated[str, typer.Argument(
                  help="Show everything of this one; `approve ID`, `deny ID`: your word on what it asks; `report ID`: "
                       "what happened, as a page.")] = "",
              asked: Annotated[str, typer.Argument(help="After approve, deny or report: the incident.")] = "",
              follow: Annotated[bool, typer.Option("--follow", "-f", help="Show what happens, until Ctrl-C.")] = False,
              out: Annotated[Path | None, typer.Option(help="Of a report: the Markdown file to write; its picture is "
                                                            "put beside it.")] = None,
              output: Output = Form.TABLE, limit: Limit = 20) -> None:
    """Show what went wrong, what was done about it, and the seconds to detect, decide and heal."""
    if incident_id in WORDS and not asked:
        raise typer.BadParameter(f"lepton incidents {incident_id} ID: the incident is missing")
    if out is not None and incident_id != "report":
        raise typer.BadParameter("--out is where a report goes: lepton incidents report ID --out FILE.md")
    if incident_id in WORDS:
        if incident_id == "report":
            reports.write(asked, out)
        else:
            _decide(incident_id, asked)
        return
    if follow:
        ask(lambda transport: _follow(transport, incident_id, limit))
    data.get(data.Kind.INCIDENTS, incident_id, output, limit)


def dependencies(output: Output = Form.TABLE) -> None:
    """Show who calls whom: what the watchdog blames roots by."""
    data.get(data.Kind.DEPENDENCIES, "", output)


@quarantine.command("add")
def quarantine_add(pipeline: Pipeline, source: Source = "", field: Field = "") -> None:
    """Divert a source's rows to the dead letters from now on, or treat a field's values as missing."""
    _order("QUARANTINE", pipeline, source, field)


@quarantine.command("lift")
def quarantine_lift(pipeline: Pipeline, source: Source = "", field: Field = "") -> None:
    """Accept a source's rows, or a field's values, again."""
    _order("RESTORE", pipeline, source, field)


@keys.command("create")
def keys_create(scopes: Annotated[list[str], typer.Option("--scope", help=f"{SCOPES}; may be given again.")],
                description: Annotated[str, typer.Option(help="Who it is for.")] = "") -> None:
    """Make a key. It is shown once, now."""
    async def post(transport: Transport) -> Any:
        return await transport.post("/v1/keys", {"scopes": scopes, "description": description}, repeatable=False)
    say(ask(post)["key"])


@keys.command("list")
def keys_list(output: Output = Form.TABLE) -> None:
    """Show every key, without its secret."""
    async def read(transport: Transport) -> Any:
        return await transport.get("/v1/keys")
    show(ask(read), output, KEY_COLUMNS)


@keys.command("revoke")
def keys_revoke(key_id: KeyId) -> None:
    """End a key for good."""
    async def remove(transport: Transport) -> None:
        await transport.call("DELETE", f"/v1/keys/{key_id}")
    ask(remove)
    say(f"{key_id}: revoked")


@keys.command("throttle")
def keys_throttle(key_id: KeyId,
                  rate: Annotated[float, typer.Option(min=0.001, help="Requests a second it may make at a gateway.")],
                  seconds: Annotated[float, typer.Option("--for", min=1, max=86_400, help="Seconds.")] = 600) -> None:
    """Bound how often a key may ask, for a time."""
    recover(key_id, {"action": "THROTTLE", "target": f"client:{key_id}", "cause": "operator",
                     "arguments": {"rate_per_s": f"{rate:g}", "for_s": f"{seconds:g}"}})


@keys.command("release")
def keys_release(key_id: KeyId) -> None:
    """End the throttle of a key before its time."""
    recover(key_id, {"action": "RESTORE", "target": f"client:{key_id}", "arguments": {}, "cause": "operator"})


@services.command("drain")
def services_drain(instance: Instance,
                   within: Annotated[float, typer.Option(min=1, max=300,
                                                         help="Seconds its requests have to end.")] = 10,
                   seconds: Annotated[float, typer.Option("--for", min=1, max=3600,
                                                          help="Seconds until it serves again.")] = 120) -> None:
    """Give a process no more requests and let those it has end, so that it can be restarted without one failing.

    It serves again once it is restarted or released, or when its time is over. The last of its service that is ready
    is refused.
    """
    recover(instance, {"action": "DRAIN", "target": f"instance:{instance}", "cause": "operator",
                       "arguments": {"within_s": f"{within:g}", "for_s": f"{seconds:g}"}})


@services.command("release")
def services_release(instance: Instance) -> None:
    """Have a process that is drained serve again."""
    recover(instance, {"action": "RESTORE", "target": f"instance:{instance}", "arguments": {}, "cause": "operator"})


def _decide(word: str, incident_id: str) -> None:
    async def post(transport: Transport) -> Any:
        return await transport.post(f"/v1/incidents/{incident_id}/{word}", {}, repeatable=True)
    told = ask(post)
    say(f"{incident_id}: {word} {told['awaiting']} of {told['target']}; see `lepton incidents {incident_id}`")


def _order(action: str, pipeline: str, source: str, field: str) -> None:
    if bool(source) == bool(field):
        raise typer.BadParameter("give either a source or --field NAME")
    recover(pipeline, {"action": action, "target": f"pipeline:{pipeline}",
                       "arguments": {"source": source} if source else {"field": field}, "cause": "operator"})


async def _follow(transport: Transport, incident_id: str, limit: int) -> None:
    """Print each event of each incident once, in the order they happened."""
    clock = SystemClock()
    seen: set[tuple[str, int]] = set()
    while True:
        found = [await transport.get(f"/v1/incidents/{incident_id}")] if incident_id else await transport.get(
            "/v1/incidents", limit=limit)
        new = [(event["at"], one, event) for one in found for at, event in enumerate(one.get("timeline", []))
               if (one["incident_id"], at) not in seen]
        for when, one, event in sorted(new, key=lambda entry: str(entry[0])):
            say(f"{when}  {one['incident_id']}  {one['symptom']} at {one['target']}: {event['what']} {event['detail']}")
        seen |= {(one["incident_id"], at) for one in found for at in range(len(one.get("timeline", [])))}
        await clock.sleep(_FOLLOW_S)
