"""Every action the watchdog's core can order is obeyed as it was meant: from its signals to what an executor read."""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from deploy.backup.archive.secret import Secret
from lepton.contracts.pb.recovery_pb2 import RECOVERY_OUTCOME_DONE
from services.watchdog.edge.recovery import ACTIONS
from services.watchdog.settings import Dry
from tests.contract.commands import executors, orders
from tests.unit.actuator.test_backups import DIGEST, NOW, backup
from tests.unit.backup.conftest import identity, secret, write

__all__ = ["backup", "identity", "secret", "write"]

TAKEN_BACK = {"cancel", "resume", "restore"}
"""What the core orders to end an order."""


class Case(NamedTuple):
    """Commands in their order: by which action, and as what each is read."""

    made: orders.Made
    obeyed: executors.Obeyed
    read: Sequence[tuple[str, str]]


HELD = "lk_1111111111111111"
QUEUED = "TRAINING_KIND_TRAIN of 50 rows, searched for 0 s, promote True"

CASES = {
    "a process that is away": Case(orders.killed, executors.by_actuator, [
        ("restart", "predictor-0: pid 11 -> .*; KILL predictor-0, start predictor-0")]),
    "a process that is ill": Case(orders.renewed, executors.by_actuator, [
        ("restart", "predictor-0: pid 11 -> .*; stop predictor-0, start predictor-0")]),
    "more processes, then fewer": Case(orders.scaled, executors.by_actuator, [
        ("scale_out", "predictor-1: started; start predictor-1, stop predictor-1"),
        ("scale_in", "predictor-1: pid 101 stopped; start predictor-1, stop predictor-1")]),
    "a bad version": Case(orders.rolled_back, executors.by_trainer, [
        ("roll_back", "phishing: version 2 left, version 1 answers since revision .*")]),
    "a loss of quality, then bad labels": Case(orders.cancelled, executors.by_trainer, [
        ("retrain", QUEUED), ("cancel", "run-[0-9a-f]+ cancelled")]),
    "a loss of quality": Case(orders.retrained, executors.by_trainer, [("retrain", QUEUED)]),
    "bad parameters": Case(orders.tuned, executors.by_trainer, [
        ("tune", "TRAINING_KIND_TRAIN of 50 rows, searched for 240 s, promote True")]),
    "a world that moves": Case(orders.fine_tuned, executors.by_trainer, [
        ("fine_tune", "TRAINING_KIND_FINE_TUNE of 50 rows, searched for 0 s, promote True")]),
    "a source that breaks": Case(orders.source_broken, executors.by_ingest, [
        ("quarantine", "source broken of pipeline phishing is quarantined")]),
    "a field that breaks and mends": Case(orders.field_broken, executors.by_ingest, [
        ("quarantine", "field x of pipeline phishing is quarantined"),
        ("restore", "field x of pipeline phishing is accepted")]),
    "all sources break": Case(orders.paused, executors.by_ingest, [
        ("pause", "pipeline phishing is paused"), ("resume", "the line of pipeline phishing goes on")]),
    "a line that stood still": Case(orders.line_stopped, executors.by_ingest, [
        ("replay_dead_letters", "1 dead letters of pipeline shop went back")]),
    "a slow version": Case(orders.slow_since_promotion, executors.by_predictor, [
        ("fall_back", "version 1 of phishing answers instead of version 2")]),
    "too many requests": Case(orders.overloaded, executors.by_predictor, [
        ("shed", r"requests of shop after priority 1 are turned away here for (600|59\d) s"),
        ("restore", "requests of shop are shed no more")]),
    "a predictor that is ill": Case(orders.drained, executors.by_predictor, [
        ("drain", r"predictor-0 has no more requests, and gets none for (70|6\d|5\d) s unless .*")]),
    "a client that asks too much": Case(orders.asked_for_too_much, executors.by_gateway, [
        ("throttle", rf"{HELD} may make 40 requests a second here for (600|59\d) s"),
        ("restore", f"{HELD} is throttled no more")]),
}
OF_BACKUPS = "restore_backup"


@pytest.mark.parametrize("name", CASES)
async def test_what_the_core_orders_is_read_by_its_executor_as_it_was_meant(tmp_path: Path, name: str) -> None:
    await agree(tmp_path, CASES[name])


async def test_a_file_that_is_lost_is_looked_for_in_backups(
        tmp_path: Path, secret: Secret, backup: Callable[[str, float], Path]) -> None:
    backup("newest", 1)
    await agree(tmp_path, Case(partial(orders.file_lost, DIGEST), executors.from_backup(
        executors.shelf(tmp_path, secret)), [
        (OF_BACKUPS, r"the file of version 2 of phishing \(1,000 bytes, .* is back, from newest\.lepton-backup of "
                     rf"{NOW - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}; .*")]))


async def agree(home: Path, case: Case) -> None:
    made = case.made()
    assert [one.action for one in made] == [action for action, _ in case.read]
    results = {one.command_id: one for one in await case.obeyed(home, made)}
    assert len(results) == len(made)
    for order, (_, meant) in zip(made, case.read, strict=True):
        result = results[order.command_id]
        assert result.outcome == RECOVERY_OUTCOME_DONE, result.evidence
        assert re.fullmatch(meant, result.evidence)
        assert (result.target, result.incident_id) == (order.target, order.incident_id)


def test_no_action_is_left_out() -> None:
    covered = {action for case in CASES.values() for action, _ in case.read} | {OF_BACKUPS}
    assert covered == set(ACTIONS)
    assert set(ACTIONS) == {*get_args(Dry), *TAKEN_BACK}
