"""Addresses of each documented kind reach their provider, and no line that is logged meanwhile shows any of them."""

import logging
from dataclasses import dataclass

import pytest
from apprise import Apprise

from services.watchdog.edge.notify import send
from services.watchdog.flow.telling import Notice
from tests.unit.watchdog.alerting.receivers import mail, web

# apprise imports a module that Python 3.13 drops; it brings its own for then.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOTICE = Notice("[critical] silence of process:ingest", "a person is needed", {"version": "4", "alerts": []})


@dataclass(frozen=True)
class Kind:
    """`host`: where messages of this kind go; `secrets`: what no line may show, people's numbers included."""

    address: str
    plugin: str
    host: str
    secrets: tuple[str, ...]


REMOTE = {
    "Slack": Kind("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "NotifySlack", "hooks.slack.com",
                  ("T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ")),
    "WeCom": Kind("wecombot://hunter2-wecom-0a1b2c3d", "NotifyWeComBot", "qyapi.weixin.qq.com",
                  ("hunter2", "0a1b2c3d")),
    "SMS by Twilio": Kind("twilio://AC0123456789abcdef0123456789abcdef:fedcba9876543210fedcba9876543210@15551234567/"
                          "15557654321", "NotifyTwilio", "api.twilio.com",
                          ("AC0123456789", "fedcba98765", "5551234567", "5557654321")),
    "SMS by Vonage": Kind("vonage://hunter2k:hunter2secret000@15551234567/15557654321", "NotifyVonage",
                          "rest.nexmo.com", ("hunter2", "5551234567", "5557654321")),
    "Telegram": Kind("tgram://123456789:abcdefghij-hunter2/12345", "NotifyTelegram", "api.telegram.org",
                     ("123456789", "abcdefghij", "hunter2", "12345")),
    "Discord": Kind("discord://4174216298/hunter2-JHMHI8qBe7bk2ZwO5U711o3dV", "NotifyDiscord", "discord.com",
                    ("4174216298", "hunter2", "JHMHI8qBe7bk2ZwO5U711o3dV")),
    "PagerDuty": Kind("pagerduty://hunter2integration@hunter2key", "NotifyPagerDuty", "events.pagerduty.com",
                      ("hunter2",)),
}


def shown(caplog: pytest.LogCaptureFixture, secrets: tuple[str, ...]) -> list[str]:
    """Lines with a secret in them, as a log would have them, tracebacks included."""
    form = logging.Formatter()
    return [line for line in map(form.format, caplog.records) if any(secret in line for secret in secrets)]


@pytest.mark.parametrize("name", REMOTE)
async def test_a_provider_is_asked_and_what_its_failure_makes_libraries_say_shows_no_address(
        name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = REMOTE[name]
    assert type(Apprise.instantiate(kind.address)).__name__ == kind.plugin
    caplog.set_level(logging.DEBUG)
    async with web() as proxy:
        # Every plugin has its provider's host built in; a proxy is the way to it that ends on this machine.
        proxy.statuses = [502] * 20
        for variable in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        assert not await send(kind.address, NOTICE)
    assert proxy.asked[0].startswith(f"CONNECT {kind.host}:443")
    assert [one for one in caplog.records if one.levelno >= logging.WARNING], "nobody learns that it failed"
    assert shown(caplog, kind.secrets) == []


@pytest.mark.parametrize(("address", "path"), [
    ("ntfy://ada:hunter2@127.0.0.1:{}/hunter2-topic", "/"),
    ("gotify://127.0.0.1:{}/hunter2token", "/message"),
    ("mmost://127.0.0.1:{}/hunter2token", "/hooks/hunter2token"),
    ("json://ada:hunter2@127.0.0.1:{}/hunter2?+X-Key=hunter2", "/hunter2"),
    ("xml://ada:hunter2@127.0.0.1:{}/hunter2", "/hunter2"),
    ("webhook+http://:hunter2@127.0.0.1:{}/hunter2", "/hunter2"),
])
async def test_what_can_run_here_gets_the_message_and_neither_that_nor_a_refusal_shows_the_address(
        address: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with web() as site:
        assert await send(address.format(site.port), NOTICE)
        site.statuses = [500] * 20
        assert not await send(address.format(site.port), NOTICE)
    assert site.asked[0] == f"POST {path} HTTP/1.1"
    assert b"silence" in site.got[0][1] or address.startswith("webhook")
    assert shown(caplog, ("hunter2",)) == []


async def test_a_mail_server_that_refuses_is_told_of_without_names_and_passwords(
        caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with mail() as post:
        # It knows neither encryption nor passwords.
        for scheme in ("mailtos", "mailto"):
            address = f"{scheme}://ada:hunter2%21@127.0.0.1:{post.port}/?from=lepton@example.org&to=bob@example.org"
            assert not await send(address, NOTICE)
    assert post.got == []
    assert [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert shown(caplog, ("hunter2", "ada", "bob@", "lepton@example")) == []


async def test_a_token_without_a_user_is_sent_as_a_bearer_token_and_a_user_as_basic_authentication() -> None:
    async with web() as site:
        assert await send(f"webhook+http://:lk_0123.s%2Fcret@127.0.0.1:{site.port}/api/v2/alerts", NOTICE)
        assert await send(f"webhook+http://ada:@127.0.0.1:{site.port}/", NOTICE)
    (bearer, _), (basic, _) = site.got
    assert "authorization: Bearer lk_0123.s/cret\r\n" in bearer
    assert "authorization: Basic YWRhOg==\r\n" in basic
