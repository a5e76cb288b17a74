"""Alerts reach real receivers over HTTP and SMTP, are tried again until taken, hold up nobody, show no address."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from lepton.clock import FakeClock
from services.watchdog.core import incident as life
from services.watchdog.core.alerting.grouping import Timing
from services.watchdog.core.alerting.routes import Route
from services.watchdog.core.inputs import Decision, Incident, Tick
from services.watchdog.edge.notify import send
from services.watchdog.flow.telling import RECENT_S, Telling
from tests.harness.wait import apoll_until
from tests.unit.watchdog.alerting.receivers import mail, web

# apprise imports a module that Python 3.13 drops; it brings its own for then.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

GIVE_UP_S = 30.0


@dataclass
class Desk:
    """Telling with its clock; `reports`: what became of messages."""

    routes: list[Route]
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=FakeClock)
    reports: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.telling = Telling(self.routes, Timing(1.0, 600.0, 20), send,
                               lambda outcome, scheme, _: self.reports.append((outcome, scheme)),
                               lambda pipeline: self.named.get(pipeline, ()), self.clock, GIVE_UP_S)

    def opened(self, name: str = "shop", ago_s: float = 0.0) -> Incident:
        at = self.clock.now().timestamp() - ago_s
        first = life.opened("quality_loss", f"model:{name}", f"model:{name}", name, "accuracy 0.5", Tick(at, at, 0.1))
        return life.escalated(first, "no rung", Tick(at, at, 0.1))

    def tell(self, incident: Incident) -> None:
        self.telling.tell(Decision(incident, alert="a person is needed"))

    async def until(self, what: str, holds: Callable[[], object]) -> None:
        async def probe() -> bool:
            await self.clock.advance(0.5)
            return bool(holds())

        await apoll_until(probe, what, every_s=0.02)


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Desk]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(desk.telling.run(stop))
        yield desk
        stop.set()
        await desk.clock.advance(1)


async def test_a_mail_server_gets_a_mail_and_a_web_server_the_document_of_alertmanager() -> None:
    async with mail() as post, web() as site:
        routes = [Route((f"mailto://127.0.0.1:{post.port}/?from=lepton@example.org&to=ada@example.org",)),
                  Route((f"webhook+http://ada:s%40crt@127.0.0.1:{site.port}/alerts?team=1",), severity=("critical",)),
                  Route((f"json://127.0.0.1:{site.port}/warnings",), severity=("warning",))]
        async with running(Desk(routes)) as desk:
            first = desk.opened()
            desk.tell(first)
            await desk.until("mail and document", lambda: post.got and site.got)
            desk.tell(life.verified(first, "well", Tick(9, 9, 0.1)))
            await desk.until("the end", lambda: len(post.got) == 2 and len(site.got) == 2)
    (recipients, text), (_, ended) = post.got
    assert "ada@example.org" in recipients[0]
    assert "Subject: [critical] quality_loss of model:shop" in text
    assert "Subject: [resolved] quality_loss of model:shop" in ended
    head, _ = site.got[0]
    assert head.startswith("POST /alerts?team=1 ")
    assert "authorization: Basic YWRhOnNAY3J0" in head
    assert [one["status"] for one in site.documents()] == ["firing", "resolved"]


async def test_a_refused_message_is_tried_again_in_order_and_holds_up_no_other(
        caplog: pytest.LogCaptureFixture) -> None:
    async with web() as broken, web() as sound:
        broken.statuses = [500, 503]
        addresses = (f"json://user:hunter2@127.0.0.1:{broken.port}/", f"webhook+http://127.0.0.1:{sound.port}/")
        async with running(Desk([Route(addresses)])) as desk:
            desk.tell(desk.opened())
            await desk.until("a refusal, and the other's", lambda: broken.refused and sound.got)
            desk.tell(desk.opened("other"))
            await desk.until("both messages", lambda: len(broken.got) == 2)
            await desk.until("both others", lambda: [one for one, _ in desk.reports].count("sent") == 4)
    assert [b"model:shop" in body for _, body in broken.got] == [True, False]
    assert [outcome for outcome, scheme in desk.reports if scheme == "json"] == ["failed", "failed", "sent", "sent"]
    assert "hunter2" not in caplog.text


async def test_an_address_nobody_can_reach_or_read_is_given_up_in_the_end_and_said_to_be(
        caplog: pytest.LogCaptureFixture) -> None:
    unfit = ("webhook+http://127.0.0.1:1/", "nonsense://hunter2", "mailto://hunter2@@:x")
    async with running(Desk([Route(unfit)])) as desk:
        desk.tell(desk.opened())
        await desk.until("three failures", lambda: len([one for one, _ in desk.reports if one == "failed"]) >= 3)
        await desk.until("all given up", lambda: len([one for one, _ in desk.reports if one == "given_up"]) == 3)
    assert {scheme for _, scheme in desk.reports} == {"webhook+http", "nonsense", "mailto"}
    assert "hunter2" not in caplog.text


async def test_who_takes_over_tells_what_may_not_have_been_told_and_repeats_the_rest() -> None:
    async with web() as site:
        address = (f"webhook+http://127.0.0.1:{site.port}/",)
        async with running(Desk([], named={"new": address, "old": address})) as desk:
            ended = life.verified(desk.opened("gone", 2 * RECENT_S), "well", Tick(5, 5, 0.1))
            desk.telling.standing([desk.opened("new", 1.0), desk.opened("old", 2 * RECENT_S), ended])
            await desk.until("the new one", lambda: site.got)
            assert [one["pipeline"] for one in _alerts(site.documents()[0])] == ["new"]
            await desk.clock.advance(600)
            await desk.until("both again", lambda: len(site.got) == 3)
            desk.telling.standing([])
            await desk.clock.advance(1300)
            desk.named.clear()
            desk.tell(desk.opened("old"))
            await desk.clock.advance(10)
    assert {one["pipeline"] for document in site.documents()[1:] for one in _alerts(document)} == {"new", "old"}
    assert len(site.got) == 3


def _alerts(document: dict[str, list[dict[str, dict[str, str]]]]) -> list[dict[str, str]]:
    return [one["labels"] for one in document["alerts"]]
