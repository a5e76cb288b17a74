"""Dead letters over REST: found by filters, shown whole, replayed once, discarded; all of it in the audit log."""

import base64
from typing import Any

from lepton.bus.records import Outgoing, partition_for
from lepton.contracts.topics import Topic
from tests.unit.gateway.house import House
from tests.unit.gateway.test_access import assert_problem

LETTERS = "/v1/pipelines/shop/dead-letters"


async def with_letters(house: House) -> None:
    """Four refused events, the last of them no text."""
    await house.apply()
    writer = house.broker.writer("test")
    for number in range(4):
        value = b"\xff\xfe" if number == 3 else b'{"event_id": "e-%d", "customer": "c", "price": "x"}' % number
        code = "malformed" if number == 3 else "wrong_type" if number else "missing"
        await writer.send(Outgoing("lepton-events-shop-dead-letters", value, b"c", (
            ("ce_id", b"e-%d" % number), ("ce_source", b"till/%d" % (number % 2)), ("lepton-row", b"p.csv:%d" % number),
            ("lepton-dead-reason", f"{code}: bad number {number}".encode()), ("lepton-dead-field", b"price"),
            ("lepton-dead-place", b"lepton-events-shop/%d@%d" % (number % 2, 40 + number)),
            ("lepton-dead-at", b"2026-01-31T12:00:0%d+00:00" % number))))


async def ids(house: House, **asked: Any) -> list[str]:
    answer = await house.admin.get(LETTERS, params=asked)
    assert answer.status_code == 200, answer.text
    return [one["event_id"] for one in answer.json()]


async def settle(house: House, verb: str, **body: Any) -> dict[str, Any]:
    answer = await house.admin.post(f"{LETTERS}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_letters_are_found_by_what_is_known_of_them(house: House) -> None:
    await with_letters(house)
    assert await ids(house) == ["e-3", "e-2", "e-1", "e-0"]
    assert await ids(house, code="wrong_type") == ["e-2", "e-1"]
    assert await ids(house, reason="number [03]$", limit=1) == ["e-3"]
    assert await ids(house, source="till/1", field="price") == ["e-3", "e-1"]
    assert await ids(house, partition=1, offset=41) == ["e-1"]
    assert await ids(house, since="2026-01-31T12:00:01Z", until="2026-01-31T12:00:03Z") == ["e-2", "e-1"]
    assert await ids(house, topic="labels") == []
    assert await ids(house, letters="events/0/2") == ["e-2"]


async def test_a_letter_is_shown_with_its_bytes_and_headers(house: House) -> None:
    await with_letters(house)
    shown = (await house.admin.get(f"{LETTERS}/events/0/3")).json()
    assert base64.b64decode(shown["base64"]) == b"\xff\xfe" and shown["text"] is None
    assert (shown["row"], shown["bytes"], shown["headers"]["ce_id"], shown["place"]) == (
        "p.csv:3", 2, "e-3", "lepton-events-shop/1@43")
    assert_problem(await house.admin.get(f"{LETTERS}/events/0/99"), 404)
    assert_problem(await house.admin.get(f"{LETTERS}/nothing/0/1"), 422, field="letter")


async def test_a_letter_goes_back_once_and_the_list_hides_it(house: House) -> None:
    await with_letters(house)
    would = await settle(house, "replay", filter={"code": "wrong_type"}, dry_run=True)
    assert (would["count"], len(await house.records("lepton-events-shop"))) == (2, 0)
    done = await settle(house, "replay", filter={"code": "wrong_type"})
    assert (done["count"], [one["event_id"] for one in done["letters"]]) == (2, ["e-1", "e-2"])
    assert (await settle(house, "replay", filter={"code": "wrong_type"}))["count"] == 0
    sent = await house.records("lepton-events-shop")
    assert {(record.partition, dict(record.headers)["ce_id"]) for record in sent} == {(0, b"e-2"), (1, b"e-1")}
    assert await ids(house) == ["e-3", "e-0"]
    assert len(await ids(house, all=True)) == 4
    assert (await settle(house, "replay", filter={"code": "wrong_type"}, force=True))["count"] == 2
    audit = [(one.action, one.object, one.detail) for one in await house.messages(Topic.AUDIT)
             if one.action.startswith("dead-letters")]
    assert [entry[:2] for entry in audit] == [("dead-letters.replay", "shop")] * 3
    assert "code=wrong_type" in audit[0][2]


async def test_an_edited_letter_goes_back_as_it_was_mended(house: House) -> None:
    await with_letters(house)
    await settle(house, "replay", filter={"letters": ["events/0/1"]}, edits={"events/0/1": {"event_id": "e-1", "n": 1}})
    (record,) = await house.records("lepton-events-shop")
    assert (record.value, record.key) == (b'{"event_id":"e-1","n":1}', b"c")


async def test_what_was_mended_goes_where_its_entity_belongs(house: House) -> None:
    await with_letters(house)
    # A row of a file: it never lay on the topic, and its letter is keyed by its place.
    await house.broker.writer("test").send(Outgoing("lepton-events-shop-dead-letters", b"a,b", b"p.csv:17", (
        ("lepton-dead-reason", b"malformed: no row"), ("lepton-dead-place", b"p.csv:17"))))
    listed = (await house.admin.get(LETTERS, params={"code": "malformed"})).json()
    row = next(one["letter"] for one in listed if one["place"] == "p.csv:17")
    mended = {one: {"event_id": f"e-{number}", "customer": name, "price": 1}
              for number, (one, name) in enumerate(((row, "bob"), ("events/0/1", "ann"), ("events/0/2", "c")))}
    await settle(house, "replay", filter={"letters": list(mended)}, edits=mended)
    sent = {record.key: record.partition for record in await house.records("lepton-events-shop")}
    count = len(house.broker.topic("lepton-events-shop").logs)
    assert sent == {b"bob": partition_for(b"bob", count), b"ann": partition_for(b"ann", count), b"c": 0}
    await house.broker.writer("test").send(Outgoing("lepton-labels-shop-dead-letters", b"{}", b"e-1", (
        ("lepton-dead-reason", b"missing: event_id"), ("lepton-dead-place", b"lepton-labels-shop/0@7"))))
    await settle(house, "replay", filter={"letters": ["labels/0/0"]}, edits={
        "labels/0/0": {"event_id": "e-2", "label": True}})
    (label,) = await house.records("lepton-labels-shop")
    assert (label.key, label.partition) == (b"e-2", partition_for(b"e-2", count))


async def test_discarding_hides_letters_and_is_for_admins(house: House) -> None:
    await with_letters(house)
    writer = await house.with_scopes("write", "read")
    assert_problem(await writer.post(f"{LETTERS}/discard", json={}), 403)
    assert (await settle(house, "discard", filter={"source": "till/0"}, dry_run=True))["count"] == 2
    assert len(await ids(house)) == 4
    assert (await settle(house, "discard", filter={"source": "till/0"}, limit=1)) | {"letters": []} == {
        "dry_run": False, "count": 1, "more": True, "letters": []}
    assert await ids(house) == ["e-3", "e-2", "e-1"]
    assert (await writer.post(f"{LETTERS}/replay", json={"filter": {"event_id": "e-0"}})).json()["count"] == 0


async def test_a_filter_that_says_nothing_sensible_is_refused(house: House) -> None:
    await with_letters(house)
    assert_problem(await house.admin.get(LETTERS, params={"reason": "("}), 422, field="reason")
    assert_problem(await house.admin.get(LETTERS, params={"topic": "quality"}), 422, field="topic")
    assert_problem(await house.admin.get(LETTERS, params={"since": "2026-01-31"}), 422)
    assert_problem(await house.admin.get(LETTERS, params={"nonsense": "1"}), 422)
    unnamed = await house.admin.post(f"{LETTERS}/replay", json={"filter": {"letters": ["x"]}})
    assert_problem(unnamed, 422, field="letter")
    assert_problem(await house.admin.get("/v1/pipelines/none/dead-letters"), 404)
