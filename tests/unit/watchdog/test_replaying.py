"""An incident lived by the real service is lived again from its journal, to the byte; and what is amiss is told."""

import pytest

from lepton.contracts.pb.incidents_pb2 import JournalEntry
from services.watchdog.core.inputs import AnyInput, Lines, Thresholds, Tick
from services.watchdog.core.journal import DECISIONS, INPUTS, MAX_BYTES, MAX_IN_ENTRY, Journal, read_inputs
from services.watchdog.core.summaries.counts import RowsSeen, SourceRows
from tests.harness.wait import apoll_until
from tests.unit.watchdog.house import House
from tools.replay import lives, read, tell


async def day(house: House) -> tuple[list[JournalEntry], str]:
    """A process falls silent and comes back; what the watchdog wrote, and the incident's id."""
    name = await house.neighbour("ingest", "ingest")
    await house.neighbour("gateway", "gateway")
    async with house.alive(), house.watched():
        async def heard() -> bool:
            return any(name in one.body_json for one in await read(house.broker))

        await apoll_until(heard, "heartbeats in the journal", 20)
        del house.beating[name]
        await house.answer(await house.command())
        house.beating[name] = "boot-2"
        incident = await house.incident("verified", "silence")
    return await read(house.broker), incident.incident_id


async def test_an_incident_is_lived_again_to_the_byte_and_what_is_amiss_is_told(
        house: House, capsys: pytest.CaptureFixture[str]) -> None:
    written, incident_id = await day(house)
    (life,) = lives(written)
    assert life.decisions
    assert life.differing() == []
    assert [one.incident.state for one in life.about(incident_id)][-1] == "verified"
    assert tell([life], incident_id) == 0
    assert "0 of them differ" in (told := capsys.readouterr().out)
    assert "commanded restart" in told

    # Records that came twice change nothing; a decision that was changed is shown; a gap ends what can be said.
    (again,) = lives([one for entry in written for one in (entry, entry)])
    assert again == life
    place = next(number for number, one in enumerate(written) if one.kind == DECISIONS)
    changed = JournalEntry()
    changed.CopyFrom(written[place])
    changed.body_json = changed.body_json.replace("silence", "boredom")
    (other,) = lives([*written[:place], changed, *written[place + 1:]])
    assert len(other.differing()) == 1
    assert tell([other], "") == 1
    assert "boredom" in capsys.readouterr().out
    (cut,) = lives([*written[:place - 1], *written[place:]])
    assert cut.broken
    assert cut.differing() == []
    assert tell(lives(written[1:]), "") == 2


async def test_a_watchdog_that_begins_anew_has_a_second_life(house: House) -> None:
    written, _ = await day(house)
    second = [JournalEntry(sequence=one.sequence, watchdog=one.watchdog, kind=one.kind,
                           body_json=one.body_json + (" " if one.kind == INPUTS else "")) for one in written]
    found = lives([*written, *second])
    assert [life.sequence for life in found] == [len(written)] * 2
    assert found[1].differing() == []


def test_a_backlog_fits_into_records_whatever_its_inputs_weigh() -> None:
    heavy = [RowsSeen("shop", tuple(SourceRows(f"source-{number}-{one}", 1, 0, 0, 0) for one in range(200)))
             for number in range(150)]
    light = [Lines(f"ingest-{number}", "ingest", ()) for number in range(MAX_IN_ENTRY + 1)]
    huge = Lines("gateway", "gateway", (("x" * MAX_BYTES, "error", 1, ""),))
    inputs: list[AnyInput] = [*heavy, *light, huge, *light]
    limits, tick = Thresholds(own="watchdog"), Tick(1.0, 1.0, 0.25)
    bodies = [body for _, body in Journal(limits).note(tick, inputs, [])]
    assert [one for body in bodies for one in read_inputs(body)] == [limits, tick, *inputs]
    assert sum(len(body) for body in bodies) > 4 * MAX_BYTES
    assert [len(read_inputs(body)) for body in bodies if len(body.encode()) > MAX_BYTES] == [1]
    assert max(len(read_inputs(body)) for body in bodies) == MAX_IN_ENTRY
