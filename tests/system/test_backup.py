"""A stack that was brought back from a backup predicts as the one it was taken of, and goes on living."""

import re
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.harness.ledger import Tail, ids_of_prediction, phishing_rows
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack of its own home, ports and credentials; taken down whatever came of it."""
    stack = LocalStack(tmp_path / "home", tmp_path / "config")
    yield stack
    if stack.home.exists():
        stack.down()


async def test_a_restored_stack_predicts_the_same_and_takes_in_what_comes_next(
        trained_stack: LocalStack, elsewhere: LocalStack, tmp_path: Path) -> None:
    key, folder = str(tmp_path / "key"), str(tmp_path / "backups")
    await trained_stack.lepton("backup", "key", key)
    told = await trained_stack.lepton("backup", "create", "--home", str(trained_stack.home), "--to", folder,
                                      "--key-file", key)
    assert re.search(r"predictions of [1-9]\d* models are kept", told)
    assert "no prediction of phishing" not in told
    assert "signed by an operator" in told
    rows = list(islice(phishing_rows(), 20))
    version = (await trained_stack.get("/v1/models/phishing"))["champion"]
    before = await trained_stack.post("/v1/models/phishing/predict", {"rows": rows, "version": version})

    restored = await elsewhere.lepton("backup", "restore", "latest", "--home", str(elsewhere.home), "--to", folder,
                                      "--key-file", key)
    assert "as in the backup" in restored
    elsewhere.attach()
    assert elsewhere.rest != trained_stack.rest
    assert elsewhere.key == trained_stack.key
    after = await elsewhere.post("/v1/models/phishing/predict", {"rows": rows, "version": version})
    assert (after["version"], after["rows"]) == (version, before["rows"])

    prefix = f"restored-{uuid.uuid4().hex[:8]}-"
    async with Tail(elsewhere.kafka, "lepton-predictions-phishing", ids_of_prediction, prefix) as predictions:
        await elsewhere.post("/v1/pipelines/phishing/events",
                             [{"event_id": f"{prefix}{n}", "entity_id": "e", **row} for n, row in enumerate(rows)])

        async def scored() -> bool:
            await predictions.read()
            return not predictions.missing([f"{prefix}{n}" for n in range(len(rows))])

        await apoll_until(scored, "predictions of events that came after", 30)
    stored = await elsewhere.segment_counts("phishing", prefix, len(rows))
    assert stored == {f"{prefix}{n}": 1 for n in range(len(rows))}

    refused = await elsewhere.lepton("backup", "restore", "latest", "--home", str(elsewhere.home), "--to", folder,
                                     "--key-file", key, expect=1)
    assert "the stack runs" in refused
