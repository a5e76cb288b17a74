"""The whole service over a broker and a database in memory: messages in, signed commands and incidents out."""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from lepton.bus.letters.finding import read_letters
from lepton.contracts import topics
from lepton.contracts.arrow.predictions import CONTENT_TYPE
from lepton.contracts.modelling.serving import Serve, Stream
from lepton.contracts.pb import incidents_pb2, recovery_pb2
from lepton.contracts.signing import verify_message
from lepton.contracts.topics import Topic
from lepton.errors import Refused
from lepton.store.incidents import Lease
from services.watchdog.core import journal
from services.watchdog.edge import quality
from tests.harness.wait import apoll_until
from tests.unit.watchdog.alerting.receivers import web
from tests.unit.watchdog.house import House, pipeline


async def test_a_silent_process_gets_a_signed_restart_and_its_incident_is_verified(house: House) -> None:
    name = await house.neighbour("ingest", "ingest")
    await house.neighbour("gateway", "gateway")
    async with house.alive(), house.watched():
        await heard(house)
        del house.beating[name]
        command = await house.command()
        assert (command.target, command.action) == (f"instance:{name}", recovery_pb2.RECOVERY_ACTION_RESTART)
        assert command.fence > 0
        verify_message(house.trusted(), "watchdog", command, datetime.now(UTC))
        with pytest.raises(Refused):
            verify_message(house.trusted(), "operator", command, datetime.now(UTC))
        assert 0 < (command.expires_at.ToDatetime() - command.issued_at.ToDatetime()).total_seconds() <= 900
        await house.answer(command)
        house.beating[name] = "boot-2"
        incident = await house.incident("verified", "silence")
        assert list(incident.command_ids) == [command.command_id]
        assert incident.incident_id == command.incident_id
        assert [one.what for one in incident.timeline] == ["opened", "diagnosed", "commanded restart", "answered done",
                                                           "verified"]
        await announced(house, incident)
    (audit,) = await house.read(Topic.AUDIT, incidents_pb2.AuditRecord)
    assert (audit.actor, audit.action, audit.object) == ("shop-watchdog", "restart", f"instance:{name}")


async def test_audit_records_form_a_chain(house: House) -> None:
    names = [await house.neighbour(name, "predictor") for name in ("a", "b", "c")]
    async with house.alive(), house.watched():
        await heard(house)
        for name in names[:2]:
            del house.beating[name]
        await house.command(2)
    first, second = await house.read(Topic.AUDIT, incidents_pb2.AuditRecord)
    assert (first.sequence, first.previous_hash, second.sequence) == (1, b"", 2)
    assert second.previous_hash == hashlib.sha256(first.SerializeToString(deterministic=True)).digest()


async def test_the_journal_replays_to_the_decisions_it_holds(house: House) -> None:
    name = await house.neighbour("ingest", "ingest")
    await house.neighbour("gateway", "gateway")
    await house.apply()
    async with house.alive(), house.watched():
        await heard(house)
        del house.beating[name]
        await house.command()
        house.beating[name] = "boot-2"
        await house.incident("verified", "silence")
    entries = await house.read(Topic.WATCHDOG_JOURNAL, incidents_pb2.JournalEntry)
    assert [one.sequence for one in entries] == list(range(1, len(entries) + 1))
    written = [journal.read_decisions(one.body_json) for one in entries if one.kind == "decision"]
    assert list(journal.replay(one.body_json for one in entries if one.kind == "signal")) == written
    assert len(written) >= 2


async def test_lost_quality_is_rolled_back_and_retrained_when_that_does_not_cure(house: House) -> None:
    await house.apply()
    await house.crown(1)
    await house.crown(2, previous=1)
    async with house.watched():
        await following(house)
        await house.predict("a", 2, 80, right=False)
        first = await house.command()
        assert (first.action, first.target) == (recovery_pb2.RECOVERY_ACTION_ROLL_BACK, "model:shop")
        assert dict(first.arguments) == {"from_version": "2"}
        await house.crown(1)
        await house.answer(first)
        await house.predict("b", 1, 80, right=False)
        second = await house.command(2)
        assert second.action == recovery_pb2.RECOVERY_ACTION_RETRAIN
        assert int(second.arguments["max_rows"]) >= 100
        await house.crown(3, previous=1)
        await house.answer(second)
        await house.predict("c", 3, 80, right=True)
        incident = await house.incident("verified", "quality_loss")
        assert list(incident.command_ids) == [first.command_id, second.command_id]


async def test_a_state_of_a_model_nobody_vouches_for_is_not_believed(house: House) -> None:
    await house.apply()
    await house.crown(1)
    async with house.watched() as service:
        await following(house)
        await house.crown(2, previous=1, signer="operator")

        async def refused() -> bool:
            return "model_refused" in service.telemetry.exposition().decode()

        await apoll_until(refused, "the refusal in the metrics")
        await house.predict("a", 2, 80, right=False)
        await house.predict("b", 1, 80, right=False)
        # Had version 2 been believed, there were a version to go back to.
        assert (await house.command()).action == recovery_pb2.RECOVERY_ACTION_RETRAIN


async def test_a_broken_source_is_quarantined_and_the_incident_told(house: House) -> None:
    await house.apply()
    async with web() as site, house.watched(
            alert_group_s=0.1, routes=f'[{{"to": ["webhook+http://127.0.0.1:{site.port}/"], "classes": ["data"]}}]'):
        await house.summarise(good=1, broken=95)
        command = await house.command()
        assert (command.action, command.target) == (recovery_pb2.RECOVERY_ACTION_QUARANTINE, "pipeline:shop")
        assert dict(command.arguments) == {"source": "broken"}
        await house.answer(command)
        incident = await house.incident("verified", "broken_data")
        assert incident.cause == "data:shop/broken"

        async def resolved() -> bool:
            return [one["status"] for one in site.documents()] == ["firing", "resolved"]

        await apoll_until(resolved, "both messages")
        assert site.documents()[0]["alerts"][0]["labels"]["cause"] == "data:shop/broken"


async def test_an_action_that_needs_approval_waits_for_an_operator_s_signed_word(house: House) -> None:
    await house.apply()
    async with house.watched(approval=["quarantine"]):
        await house.summarise(good=1, broken=95)
        incident = await house.incident("escalated", "broken_data")
        assert (incident.awaiting, incident.approve_by.seconds > incident.opened_at.seconds) == ("quarantine", True)
        # The watchdog's own key vouches for commands, but is nobody's word.
        await house.say(incident, "watchdog")
        await house.say(incident, "operator")
        command = next(one for one in await house.sent(3) if one.incident_id)
        assert command.action == recovery_pb2.RECOVERY_ACTION_QUARANTINE
        told = await house.incident("commanded", "broken_data")
        assert [one.detail for one in told.timeline if one.what == "approved"] == ["quarantine by operator:lk_1"]
        letters = await read_letters(house.broker, topics.name(Topic.RECOVERY_COMMANDS))
        assert ["only an operator's word counts" in one.reason for one in letters] == [True]


async def test_a_record_that_cannot_be_read_goes_to_the_dead_letters_once(house: House) -> None:
    async with house.watched():
        await house.write(Topic.TELEMETRY, b"\xff junk", "x")
        telemetry = topics.name(Topic.TELEMETRY)

        async def letters() -> bool:
            return bool(await read_letters(house.broker, telemetry))

        await apoll_until(letters, "the dead letter")
    async with house.watched(instance="shop-watchdog-2"):
        await house.write(Topic.TELEMETRY, b"\xff more", "x")

        async def more() -> bool:
            return b"\xff more" in [one.record.value for one in await read_letters(house.broker, telemetry)]

        await apoll_until(more, "the second dead letter")
        assert [one.record.value for one in await read_letters(house.broker, telemetry)] == [b"\xff junk", b"\xff more"]


async def test_what_cannot_be_read_and_came_while_no_watchdog_was_there_is_dead_lettered(house: House) -> None:
    await house.apply()
    flows = (Topic.PREDICTIONS, Topic.OUTCOMES, Topic.QUALITY)
    for junk in (b"\xff first", b"\xff second"):
        for flow in flows:
            await house.write(flow, junk, "x", pipeline=house.name)
        async with house.watched():
            for flow in flows:
                async def letters(flow: Topic = flow, junk: bytes = junk) -> bool:
                    found = await read_letters(house.broker, topics.name(flow, house.name))
                    return junk in [one.record.value for one in found]

                await apoll_until(letters, f"{junk!r} of {flow} in the dead letters")
    for flow in flows:
        found = await read_letters(house.broker, topics.name(flow, house.name))
        assert [one.record.value for one in found] == [b"\xff first", b"\xff second"]


async def test_a_batch_of_predictions_too_old_to_be_joined_is_looked_at_all_the_same(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "PREDICTION_BATCHES", 0)
    spec = pipeline(house.name)
    await house.apply(spec.model_copy(update={"serve": Serve(stream=Stream(results="batches"))}))
    await house.write(Topic.PREDICTIONS, b"\xff no batch", "x", content_type=CONTENT_TYPE, pipeline=house.name)
    async with house.watched():
        async def letters() -> bool:
            found = await read_letters(house.broker, topics.name(Topic.PREDICTIONS, house.name))
            return [one.record.value for one in found] == [b"\xff no batch"]

        await apoll_until(letters, "the dead letter")


async def test_of_two_watchdogs_one_acts_and_the_other_takes_over_with_a_higher_fence(house: House) -> None:
    name = await house.neighbour("ingest", "ingest")
    await house.neighbour("gateway", "gateway")
    async with AsyncExitStack() as rest:
        await rest.enter_async_context(house.alive())
        async with house.watched():
            await heard(house)
            await rest.enter_async_context(house.watched(instance="shop-watchdog-2"))
            del house.beating[name]
            first = await house.command()
            house.beating[name] = "boot-2"
            await house.incident("verified", "silence")
        house.beating.pop(name)
        second = await house.command(2)
        assert second.fence > first.fence > 0
        assert second.issuer != (await house.commands())[0].issuer
        assert len(await house.commands()) == 2


async def test_a_watchdog_that_stops_lets_go_of_the_lease(house: House) -> None:
    async with house.watched() as service:
        await apoll_until(_leads(house), "the lease")
    assert await Lease(house.database, service.clock).acquire("watchdog", "another", 5)


async def test_a_pipeline_that_is_deleted_is_left(house: House) -> None:
    await house.apply()
    async with house.watched():
        await house.summarise(good=1, broken=1)
        await house.write(Topic.PIPELINES, None, "shop")
        await house.apply(pipeline("shop"))
        await house.summarise(good=1, broken=95)
        assert (await house.command()).target == "pipeline:shop"


async def test_of_summaries_of_long_ago_only_the_number_of_rows_is_read_back(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "SUMMARIES", 2)
    monkeypatch.setattr(quality, "COUNTED", 3)
    await house.apply()
    for number in range(8):
        await house.summarise(**{f"s{number}": 95})
    for times in (1, 2):
        async with house.watched():
            async def newest(wanted: int = times) -> bool:
                return (await _journal(house)).count('"s7"') == wanted

            await apoll_until(newest, "the newest summary in the journal")
    body = await _journal(house)
    assert [body.count(f'"s{number}"') for number in range(8)] == [0] * 6 + [2] * 2
    assert body.count('"RowsSeen"') == 10
    assert body.count('[{"source":"","accepted":5,"rejected":95,"outliers":0,"missing":0}]') == 6


async def _journal(house: House) -> str:
    return "".join(one.body_json for one in await house.read(Topic.WATCHDOG_JOURNAL, incidents_pb2.JournalEntry))


async def heard(house: House) -> None:
    """Until the watchdog wrote down heartbeats of every neighbour: from here on their silence counts."""
    async def all_heard() -> bool:
        bodies = "".join(one.body_json for one in await house.read(Topic.WATCHDOG_JOURNAL, incidents_pb2.JournalEntry))
        beats = [f'["Beat","{name}"' for name in house.beating]
        return '"Leads"' in bodies and all(beat in bodies for beat in beats)

    await apoll_until(all_heard, "heartbeats in the journal", 20)


async def following(house: House) -> None:
    """Until the watchdog follows what flows through the pipeline."""
    await house.summarise(good=0)

    async def seen() -> bool:
        return any("RowsSeen" in one.body_json
                   for one in await house.read(Topic.WATCHDOG_JOURNAL, incidents_pb2.JournalEntry))

    await apoll_until(seen, "a summary in the journal")


async def announced(house: House, incident: incidents_pb2.Incident) -> None:
    async def there() -> bool:
        return incident in await house.read(Topic.INCIDENTS, incidents_pb2.Incident)

    await apoll_until(there, "the incident on its topic")


def _leads(house: House) -> Callable[[], Awaitable[bool]]:
    async def leads() -> bool:
        lease = await house.database.collection("leases").get("watchdog")
        return lease is not None

    return leads
