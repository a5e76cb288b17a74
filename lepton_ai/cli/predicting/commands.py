"""Commands that ask models: rows and entities at once, whole files and data sets as jobs; and feedback."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.errors import Invalid
from lepton_ai import AsyncLeptonClient
from lepton_ai._jobs.jobs import Answered, PredictJobs, Wanted
from lepton_ai.cli.bars import bar
from lepton_ai.cli.session import Form, Output, parse_json, read_rows, say, show, with_client

INTERRUPTED = 130
SHOWN = ("number", "low", "high", "label", "probabilities", "top", "values", "score", "attributions",
         "attribution_parts", "joined", "error")

Name = Annotated[str, typer.Argument(help="Name of a model; it is its pipeline's.")]
Grpc = Annotated[bool, typer.Option("--grpc", help="Ask the region's predictor itself.")]
Explain = Annotated[bool, typer.Option("--explain", help="Say what each field, and each part of it, did.")]
Source = Annotated[Path | None, typer.Option("--in", help="Answer this .csv, .tsv, .jsonl or .parquet file.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where its answers go: a .csv, .jsonl or .parquet file.")]
Stored = Annotated[str, typer.Option("--dataset", help="Answer a pipeline's stored rows instead of a file.")]
Snapshot = Annotated[str, typer.Option("--snapshot", help="Those of this snapshot of the data set.")]
Keep = Annotated[list[str] | None, typer.Option(help="Column that stands beside the answers; repeatable.")]
Restart = Annotated[bool, typer.Option("--restart", help="Forget what an interrupted job has done.")]
Delimiter = Annotated[str | None, typer.Option(help="Between the values of a CSV file; a comma by default.")]


def add_to(app: typer.Typer) -> None:
    app.command()(predict)
    app.command()(feedback)


def predict(name: Name, rows: Annotated[list[str] | None, typer.Argument(help="Rows as JSON objects.")] = None,
            file: Annotated[Path | None, typer.Option("--file", "-f", help="Rows in a file; - is stdin.")] = None,
            over_grpc: Grpc = False, explain: Explain = False,
            entity: Annotated[list[str] | None, typer.Option(help="Fill up the row with this entity's newest "
                              "features, or be the row; repeatable, one a row.")] = None,
            each: Annotated[bool, typer.Option("--each", help="Rows fail alone.")] = False,
            source: Source = None, out: Out = None, dataset: Stored = "", snapshot: Snapshot = "", keep: Keep = None,
            restart: Restart = False, delimiter: Delimiter = None, output: Output = Form.TABLE) -> None:
    """Predict rows by named fields, or by what is remembered of entities; with --out a whole file or data set.

    A job that was interrupted anywhere goes on by the same command; no row is answered twice or left out.
    """
    if out is not None or source is not None or dataset:
        if out is None or (source is None) == (not dataset) or rows or file or entity:
            raise Invalid("needs --out, and one of --in and --dataset, and nothing else to predict", field="--out",
                          remedy="lepton predict NAME --in rows.csv --out answers.csv")
        _job(Wanted(name, out, tuple(keep or ()), explain, over_grpc, delimiter), source, dataset, snapshot, restart)
        return
    wanted = [parse_json(row, "argument") for row in rows or []] + (read_rows(file) if file is not None else [])
    if not (wanted or entity) or not all(isinstance(row, dict) for row in wanted):
        raise Invalid("needs rows as JSON objects", field="rows", remedy="""lepton predict NAME '{"field": 1.5}'""")

    async def asked(client: AsyncLeptonClient) -> list[dict[str, Any]]:
        return await client.predict(name, wanted, over="grpc" if over_grpc else "rest", explain=explain,
                                    entities=entity or [], each=each)
    answers = with_client(asked)
    show(answers, output, [column for column in SHOWN if any(column in answer for answer in answers)])


def _job(wanted: Wanted, source: Path | None, dataset: str, snapshot: str, restart: bool) -> None:
    reached = [0]
    with bar(wanted.model) as shown:
        def told(share: float, rows: int) -> None:
            reached[0] = rows
            shown.show(share, f"{rows:,} rows")

        async def work(client: AsyncLeptonClient) -> Answered:
            jobs = PredictJobs(client.transport, wanted, told)
            if source is not None:
                return await jobs.file(source, restart=restart)
            data = await client.datasets.get_snapshot(dataset, snapshot) if snapshot else dataset
            return await jobs.stored(client.datasets.rows(data), restart=restart)

        try:
            done = with_client(work)
        except KeyboardInterrupt:
            done = None
    if done is None:
        sys.stderr.write(f"\nstopped after {reached[0]:,} rows; the same command goes on from there\n")
        raise typer.Exit(INTERRUPTED)
    failed = f", {done.failed:,} without an answer (column `error` says why)" if done.failed else ""
    say(f"{done.out}: {done.rows:,} rows by version {done.version} of {wanted.model}{failed}")
    if done.left_out:
        say(f"not fields of the model: {', '.join(done.left_out)}")


def feedback(name: Name, event: Annotated[str, typer.Option(help="Id of the event it is about.")] = "",
             entity: Annotated[str, typer.Option(help="Instead: the entity, for its newest event.")] = "",
             label: Annotated[str, typer.Option(help="What became true: JSON, or a word as it is.")] = "",
             accepted: Annotated[bool | None, typer.Option("--accepted/--rejected", help="What you think of the "
                                 "answer, where nobody knows the truth.")] = None,
             score: Annotated[float | None, typer.Option(help="The same from -1 to 1; below 0 it is rejected.")] = None,
             reason: Annotated[str, typer.Option(help="Why you think so; 500 characters at most.")] = "",
             version: Annotated[int, typer.Option(help="The version that answered; needed for answers that are not "
                                "logged.")] = 0,
             file: Annotated[Path | None, typer.Option("--file", "-f", help="Outcomes and opinions as JSON objects; "
                             "what has no label is an opinion.")] = None) -> None:
    """Say what became true of what was predicted, or what you think of an answer; no model learns from opinions."""
    told = read_rows(file) if file is not None else []
    outcomes = [one for one in told if "label" in one]
    opinions = [one for one in told if "label" not in one]
    if label:
        try:
            value = json.loads(label)
        except ValueError:
            value = label
        outcomes.append({"event_id": event, "entity": entity, "label": value})
    if accepted is not None or score is not None:
        said = {"accepted": accepted, "score": score, "reason": reason, "version": version}
        opinions.append({"event_id": event, "entity": entity,
                         **{member: value for member, value in said.items() if value not in (None, "")}})
    if not outcomes and not opinions:
        raise Invalid("needs an outcome or an opinion", field="--label",
                      remedy="lepton feedback NAME --event ID --label true, or --accepted, or --rejected")

    async def send(client: AsyncLeptonClient) -> list[str]:
        return await client.feedback(name, outcomes, opinions)
    with_client(send)
    counted = [f"{len(found)} {what}" for found, what in ((outcomes, "outcomes"), (opinions, "opinions")) if found]
    say(f"{name}: {' and '.join(counted)} are durable")
