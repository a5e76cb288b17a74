"""A run while it goes: a bar with its epoch and figures, a line for each stage, and how it ended."""

import sys
from collections.abc import Mapping

import typer

from lepton_ai import AsyncLeptonClient
from lepton_ai._models import Run
from lepton_ai.cli.bars import Bar, bar
from lepton_ai.cli.session import cell, say, with_client

FIRST = ("training_loss", "validation_loss")
FIGURES_SHOWN = 4


def follow(run_id: str) -> None:
    """Show a run until it ends; exits with 1 unless it succeeded. Ctrl-C ends the showing, never the run."""
    async def watch(client: AsyncLeptonClient) -> Run:
        with bar(run_id) as shown:
            before = last = None
            async for run in client.runs.follow(run_id):
                before, last = last, run
                _show(shown, run, before)
        if last is None:
            raise RuntimeError("a run was followed and never seen")
        return last

    try:
        run = with_client(watch)
    except KeyboardInterrupt:
        sys.stderr.write(f"the run goes on; end it with: lepton runs cancel {run_id}\n")
        raise
    say(ending(run))
    if run.state != "succeeded":
        raise typer.Exit(1)


def ending(run: Run) -> str:
    """How a run stands, in one line."""
    told = f"{run.run_id} of {run.model}: {run.state}" + (f", version {run.version}" if run.version else "")
    if run.metrics:
        told += f" ({figures(run.metrics)})"
    if run.explanation:
        told += f"\n{run.explanation}"
    if run.failure:
        name = f"{run.failure_name}: " if run.failure_name else ""
        told += f"\n{name}{run.failure}" + (f"; {run.remedy}" if run.remedy else "")
    return told


def figures(metrics: Mapping[str, float]) -> str:
    """Losses first, then the others by name."""
    ordered = [name for name in FIRST if name in metrics] + sorted(set(metrics) - set(FIRST))
    return ", ".join(f"{name} {cell(metrics[name])}" for name in ordered)


def _show(shown: Bar, run: Run, before: Run | None) -> None:
    if run.stage and (before is None or run.stage != before.stage):
        sys.stderr.write(f"{run.run_id}: {run.stage}\n")
    share = run.epoch / run.epochs if run.epochs else 0.0
    metrics = dict(list(run.metrics.items())[:FIGURES_SHOWN]) if run.epoch else {}
    text = f"{run.state}, epoch {run.epoch} of {run.epochs}" if run.epochs else run.state
    shown.show(share, text + (f", {figures(metrics)}" if metrics else ""))
