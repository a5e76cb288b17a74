"""A line that refused too much stops, an incident says so, a person resumes it; its letters are mended and replayed."""

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.harness.ledger import Tail, ids_of_features
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(300)]

PIPELINE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name}}}
events:
  partitions: 2
  dead_letter_limit: 10
  fields:
    price: {{type: float, required: true}}
"""


async def incident(stack: LocalStack, pipeline: str, since: float, state: str) -> dict[str, Any]:
    async def found() -> dict[str, Any] | None:
        for one in await stack.get("/v1/incidents"):
            if (one["symptom"], one["pipeline"], one["state"]) == ("line_stopped", pipeline, state) \
                    and stack.seconds(one["opened_at"]) >= since - 1:
                return dict(one)
        return None

    result = await apoll_until(found, f"a {state} incident of {pipeline}", 90, every_s=0.5)
    assert result is not None
    return result


async def test_a_stopped_line_is_an_incident_until_a_person_resumes_it_and_its_letters_come_back_mended(
        stack: LocalStack, tmp_path: Path) -> None:
    since, pipeline = time.time(), f"stop-{uuid.uuid4().hex[:8]}"
    await stack.post_text("/v1/pipelines", PIPELINE.format(name=pipeline))
    events = f"/v1/pipelines/{pipeline}/events"
    async with Tail(stack.kafka, f"lepton-features-{pipeline}", ids_of_features, "") as features:
        async def arrived(*ids: str) -> None:
            async def all_there() -> bool:
                await features.read()
                return not features.missing(list(ids))

            await apoll_until(all_there, f"{len(ids)} events", 90)

        await stack.post(events, {"event_id": "first", "price": 1})
        await arrived("first")
        await stack.post(events, [{"event_id": f"bad-{n}", "price": "dear"} for n in range(40)])
        opened = await incident(stack, pipeline, since, "ESCALATED")
        assert (opened["cause"], opened["target"]) == (f"data:{pipeline}", f"pipeline:{pipeline}")
        assert f"lepton pipelines resume {pipeline}" in str(opened["timeline"])
        assert not await stack.is_ready("ingest")
        assert "sent to ingest" in await stack.lepton("pipelines", "resume", pipeline)
        closed = await incident(stack, pipeline, since, "VERIFIED")
        assert closed["verdict"] == "the line moves again"
        good = [f"good-{n}" for n in range(20)]
        await stack.post(events, [{"event_id": event_id, "price": 2} for event_id in good])
        await arrived(*good)
        found: list[dict[str, Any]] = []

        async def all_letters() -> bool:
            found[:] = json.loads(await stack.lepton("dead-letters", "list", pipeline, "--code", "wrong_type",
                                               "--limit", "1000", "-o", "json"))
            return len(found) == 40

        await apoll_until(all_letters, "forty letters", 60, every_s=0.5)
        assert "40 letters would go back" in await stack.lepton("dead-letters", "replay", pipeline, "--dry-run")
        edits = tmp_path / "edits.jsonl"
        edits.write_text("\n".join(json.dumps({"letter": one["letter"], "value": {
            "event_id": one["event_id"], "price": 3}}) for one in found[:15]), "utf-8")
        assert "15 letters went back" in await stack.lepton("dead-letters", "replay", pipeline, "--edit", str(edits))
        await arrived(*(one["event_id"] for one in found[:15]))
        assert "25 letters discarded" in await stack.lepton("dead-letters", "discard", pipeline, "--field", "price")
        assert "0 letters went back" in await stack.lepton("dead-letters", "replay", pipeline)
        assert await stack.lepton("dead-letters", "list", pipeline, "-o", "json") == "[]\n"
        await features.read()
    assert not features.doubled()
