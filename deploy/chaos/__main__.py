"""`python -m deploy.chaos run PLAN`: runs a plan of faults against the stack of this machine, and says how it went."""

import argparse
import asyncio
import os
import platform
import sys
from functools import partial
from pathlib import Path

import httpx

from deploy.chaos import report
from deploy.chaos.course import Course, keep, kept
from deploy.chaos.models.corrupting import corrupted
from deploy.chaos.network import Network
from deploy.chaos.plan import Plan, part, read
from deploy.chaos.run import run
from deploy.chaos.stack import Stack
from deploy.chaos.verdict import concerns
from deploy.local import credentials, links, ports, processes, programs
from deploy.local.ports import NETWORK
from deploy.local.steps import ended, say
from lepton.bus import kafka
from lepton.clock import SystemClock
from lepton.errors import Invalid, Missing
from lepton.store.mongo import Database


async def work(course: Course, home: Path) -> None:
    """The outcomes, told as they are known. Raises Missing where no stack runs, and as `run`."""
    plan = course.plan
    found = ports.load(home)
    if found is None or not processes.manager(home).alive():
        raise Missing("no stack runs here", place=str(home), remedy="`lepton up`")
    ready = {one.name: one.ready for one in [*programs.servers(found), *programs.services(found)]}
    settings = programs.settings(found, "chaos")
    database = Database.connect(found.mongo, settings.mongo_database)
    broker = kafka.connect(settings.broker_options())

    async def is_ready(name: str) -> bool:
        # What has no readiness to tell, such as the unit of backups, is ready as long as it runs.
        return name not in ready or await asyncio.to_thread(ready[name])

    try:
        async with httpx.AsyncClient(base_url=found.rest, headers=credentials.from_bootstrap(found).header,
                                     timeout=10) as rest, httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{found.ports.get(NETWORK, 0)}", timeout=5) as proxy:
            network = Network(links.links(found), proxy)
            stack = Stack(processes.manager(home), broker, rest, is_ready, SystemClock(), network,
                          lambda incident: concerns(incident, plan.pipeline, plan.ignore), partial(corrupted, database))
            await run(stack, course)
    finally:
        await database.close()
        await broker.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="lepton chaos", description="Break the stack on this machine by plan")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run a plan; exit 1 when something was not as it expects")
    running.add_argument("plan", type=Path)
    running.add_argument("--home", type=Path, default=programs.HOME)
    running.add_argument("--rows", type=Path, help="events are made of these, .csv or .jsonl, instead of the plan's")
    running.add_argument("--out", type=Path, help="write the table here, as Markdown")
    running.add_argument("--resume", type=Path, help="keep outcomes in this file, and strike only what it has none of")
    running.add_argument("--only", action="append", default=[], help="this fault of the plan, once; may be given again")
    running.add_argument("--together", action="store_true", help="the two faults given with --only at once")
    given = parser.parse_args()
    return ended("lepton chaos", lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    plan = read(given.plan, given.rows)
    if given.resume is not None and (given.only or given.together):
        raise Invalid("what is gone on with is a whole plan", field="--resume", place=plan.name,
                      remedy="leave out --only and --together, or --resume")
    if given.only or given.together:
        plan = part(plan, given.only, together=given.together)

    def told(outcome: report.Outcome) -> None:
        say(f"{outcome.fault}, round {outcome.round} of {plan.rounds}")
        say(f"  {report.line(outcome)}")
        # After each: whoever ends this process does not end what is known.
        _write(given, course, f"after {outcome.fault} the run went on, or was ended from outside")
        if given.resume is not None:
            keep(given.resume, course)

    course = Course(plan, told, kept(given.resume, plan) if given.resume is not None else [])
    if course.outcomes:
        say(f"{len(course.outcomes)} outcomes of this plan are in {given.resume} already")
    try:
        asyncio.run(work(course, given.home.expanduser().resolve()))
    except BaseException as failure:
        _ended(given, course, course.ended(failure))
        raise
    _ended(given, course, course.ended())
    return 1 if course.spent or any(one.shortcomings for one in course.outcomes) else 0


def _ended(given: argparse.Namespace, course: Course, early: str) -> None:
    """What the whole came to; where nothing was struck, nothing is told, and no page of an earlier run is lost."""
    if course.outcomes:
        say(report.summary(course.outcomes) + (f". Ended before its time: {early}" if early else ""))
        _write(given, course, early)


def _write(given: argparse.Namespace, course: Course, early: str) -> None:
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(report.page(course.outcomes, _command(given), _about(course.plan), early), "utf-8")


def _command(given: argparse.Namespace) -> str:
    rows = f" --rows {given.rows.name}" if given.rows is not None else ""
    return f"lepton chaos run {given.plan.name}{rows}"


def _about(plan: Plan) -> str:
    ended_at = SystemClock().now().strftime("%Y-%m-%d %H:%M UTC")
    return (f"The plan `{plan.name}`, {plan.rounds} round{'s' * (plan.rounds != 1)}, {plan.flow.events_per_s:g} events "
            f"a second; ended {ended_at} on {os.cpu_count()} cores ({platform.machine()}, {platform.system()}).")


if __name__ == "__main__":
    sys.exit(main())
