"""The commands of dead letters, in front of a whole gateway."""

import json
from pathlib import Path

from lepton.bus.records import Outgoing
from tests.unit.gateway.house import House
from tests.unit.lepton_ai.files.desk import lepton


async def with_letters(house: House) -> None:
    await house.apply()
    writer = house.broker.writer("test")
    for number in range(3):
        await writer.send(Outgoing("lepton-events-shop-dead-letters", b'{"event_id": "e-%d"}' % number, b"c", (
            ("ce_id", b"e-%d" % number), ("ce_source", b"till"), ("lepton-dead-field", b"price"),
            ("lepton-dead-reason", b"wrong_type: number %d" % number),
            ("lepton-dead-place", b"lepton-events-shop/1@%d" % number),
            ("lepton-dead-at", b"2026-01-31T12:00:0%d+00:00" % number))))


async def test_letters_are_listed_shown_replayed_and_discarded(house: House, tmp_path: Path) -> None:
    await with_letters(house)
    listed = await lepton(house, "dead-letters", "list", "shop", "--source", "till", "--until", "2026-01-31T12:00:02Z")
    assert listed.code == 0, listed.err
    assert "events/0/1" in listed.out and "wrong_type: number 0" in listed.out and "events/0/2" not in listed.out
    shown = await lepton(house, "dead-letters", "show", "shop", "events/0/1")
    assert "base64: eyJldmVudF9pZCI6ICJlLTEifQ==" in shown.out
    raw = await lepton(house, "dead-letters", "show", "shop", "events/0/1", "--raw")
    assert raw.out == '{"event_id": "e-1"}\n'
    dry = await lepton(house, "dead-letters", "replay", "shop", "--reason", "number [01]", "--dry-run")
    assert "2 letters would go back" in dry.out and await house.records("lepton-events-shop") == []
    (tmp_path / "edits.jsonl").write_text(json.dumps({"letter": "events/0/1", "value": {"event_id": "e-1", "n": 1}}))
    edited = await lepton(house, "dead-letters", "replay", "shop", "--edit", str(tmp_path / "edits.jsonl"))
    assert "1 letter went back" in edited.out, edited.err
    assert [record.value for record in await house.records("lepton-events-shop")] == [b'{"event_id":"e-1","n":1}']
    one = await lepton(house, "dead-letters", "replay", "shop", "events/0/0")
    assert "1 letter went back" in one.out, one.err
    gone = await lepton(house, "dead-letters", "discard", "shop", "--yes")
    assert "1 letter discarded" in gone.out, gone.err
    nothing = await lepton(house, "dead-letters", "list", "shop")
    assert nothing.out == "" and nothing.err.endswith("none\n")
    every = await lepton(house, "dead-letters", "list", "shop", "--all", "-o", "json")
    assert [(one["replayed"], one["discarded"]) for one in json.loads(every.out)] == [
        (False, True), (True, False), (True, False)]


async def test_what_cannot_be_meant_says_why(house: House, tmp_path: Path) -> None:
    await with_letters(house)
    (tmp_path / "edits.jsonl").write_text("{}\n")
    for arguments, why in ((("list", "shop", "--since", "yesterday"), "is no time"),
                           (("list", "shop", "--reason", "("), "no pattern"),
                           (("show", "shop", "events/0/9"), "there is no dead letter"),
                           (("replay", "shop", "--edit", str(tmp_path / "edits.jsonl")), "needs `letter`")):
        done = await lepton(house, "dead-letters", *arguments)
        assert done.code == 1 and why in done.err, done.err
