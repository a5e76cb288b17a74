"""How the command line is put together, and how a failure is said: one line on stderr, exit 1."""

import sys

import typer

from lepton.errors import LeptonError
from lepton_ai.cli import data, files, letters, models, operations, pipelines, quality, stack
from lepton_ai.cli.audit import commands as audit
from lepton_ai.cli.backups import commands as backups
from lepton_ai.cli.datasets import commands as datasets
from lepton_ai.cli.edge import commands as edge
from lepton_ai.cli.logs import commands as logs
from lepton_ai.cli.predicting import commands as predicting
from lepton_ai.cli.rollouts import commands as rollouts
from lepton_ai.cli.runs import commands as runs

app = typer.Typer(name="lepton", help="Keeps machine-learning models alive on live data.", no_args_is_help=True,
                  pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})

for commands in (stack, logs, data, files, datasets, letters, pipelines, quality, models, predicting, rollouts, runs,
                 edge, backups, audit, operations):
    commands.add_to(app)


def run() -> None:
    """Exit codes: 0 done, 1 it could not be, 2 wrong usage, 130 interrupted; of `up`, `down` and `status`, theirs."""
    try:
        app()
    except LeptonError as failure:
        sys.stderr.write(f"lepton: {failure}\n")
        raise SystemExit(1) from None
