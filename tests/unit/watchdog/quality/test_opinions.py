"""An opinion finds the version it is about, whichever comes first; each author's first word on an event counts once."""

import pytest

from lepton.clock import FakeClock
from lepton.contracts.arrow.predictions import Served
from lepton.contracts.feedback.opinions import Opinion
from lepton.contracts.pb.outcomes_pb2 import Outcome
from services.watchdog.core.quality import opinions as judged
from services.watchdog.core.quality.join import Joiner, Prediction
from services.watchdog.core.quality.opinions import Opinions
from services.watchdog.core.summaries.counts import Opined
from services.watchdog.flow.observing import Observing
from tests.unit.watchdog.house import pipeline


@pytest.fixture
def heard() -> Opinions:
    joiner = Joiner("shop")
    joiner.classes = {2: (), 3: ()}
    return Opinions(joiner)


def predicted(heard: Opinions, event_id: str, version: int) -> None:
    heard.joiner.predicted(event_id, Prediction(version, "true"))
    heard.predicted(event_id, version)


def test_an_opinion_is_counted_for_the_version_that_answered_whichever_comes_first(heard: Opinions) -> None:
    predicted(heard, "a", 3)
    heard.opined("a", "ann", True)
    heard.opined("b", "ann", False)
    assert heard.take() == [Opined("shop", 3, "ann", 0, 1)]
    predicted(heard, "b", 2)
    assert heard.take() == [Opined("shop", 2, "ann", 1, 0)]
    heard.joiner.turned_out("a", "true")
    heard.opined("a", "bob", True)
    assert heard.take() == [Opined("shop", 3, "bob", 0, 1)]


def test_the_first_word_of_an_author_on_an_event_counts_once(heard: Opinions) -> None:
    for rejected in (True, True, False):
        heard.opined("later", "ann", rejected)
    predicted(heard, "later", 3)
    for rejected in (True, False):
        heard.opined("later", "ann", rejected)
    heard.opined("later", "bob", False)
    assert heard.take() == [Opined("shop", 3, "ann", 0, 1), Opined("shop", 3, "bob", 1, 0)]
    assert heard.take() == []


def test_a_version_may_be_claimed_where_no_prediction_tells_it_and_only_one_that_exists(heard: Opinions) -> None:
    predicted(heard, "logged", 3)
    for event_id, version in (("logged", 2), ("not logged", 2), ("invented", 99)):
        heard.opined(event_id, "ann", True, version)
    assert heard.take() == [Opined("shop", 3, "ann", 0, 1), Opined("shop", 2, "ann", 0, 1)]
    assert list(heard.waiting) == ["invented"]


def test_an_author_who_floods_crowds_out_nobody(heard: Opinions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "MAX_OF_AUTHOR", 10)
    heard.limit = 12
    heard.opined("mine", "ann", True)
    for number in range(100):
        heard.opined(f"{number}", "spam", True)
    assert len(heard.waiting) == 11
    predicted(heard, "mine", 3)
    predicted(heard, "99", 3)
    heard.opined("100", "spam", True)
    assert "100" in heard.waiting
    for number in range(5):
        heard.opined(f"ann-{number}", "ann", False)
    assert len(heard.waiting) == 12
    assert heard.take() == [Opined("shop", 3, "ann", 0, 1), Opined("shop", 3, "spam", 0, 1)]


def test_of_an_author_s_opinions_without_a_prediction_the_newest_wait(
        heard: Opinions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "MAX_OF_AUTHOR", 3)
    heard.opined("0", "bob", True)
    for number in range(5):
        heard.opined(f"{number}", "ann", False)
    heard.opined("4", "ann", True)
    assert heard.waiting == {"0": {"bob": True}, "2": {"ann": False}, "3": {"ann": False}, "4": {"ann": False}}
    for number in range(5):
        predicted(heard, f"{number}", 3)
    assert heard.take() == [Opined("shop", 3, "bob", 0, 1), Opined("shop", 3, "ann", 3, 0)]
    heard.opined("later", "ann", True)
    heard.limit = 1
    heard.opined("latest", "ann", True)
    assert heard.waiting == {"latest": {"ann": True}}
    predicted(heard, "latest", 3)
    assert (heard.waiting, heard._of_author) == ({}, {})


def test_what_many_authors_say_is_given_over_several_ticks(heard: Opinions) -> None:
    predicted(heard, "a", 3)
    for number in range(120):
        heard.opined("a", f"key-{number}", True)
    assert [len(heard.take()) for _ in range(4)] == [50, 50, 20, 0]


def test_the_watchdog_joins_them_with_predictions_of_their_pipeline() -> None:
    observing = Observing("watchdog", FakeClock())
    observing.opined("shop", Opinion(event_id="early", author="ann", accepted=True))
    observing.pipeline("shop", pipeline("shop"))
    observing.take()
    observing.opined("shop", Opinion(event_id="a", author="ann", score=-0.1))
    observing.opined("shop", Opinion(event_id="b", author="ann", score=0.0))
    observing.predicted("shop", [Served("a", 3, "true"), Served("b", 3, "true")])
    observing.turned_out("shop", Outcome(event_id="a", flag=True))
    said = [one for one in observing.take() if isinstance(one, Opined)]
    assert said == [Opined("shop", 3, "ann", 1, 1)]
    observing.pipeline("shop", None)
    observing.opined("shop", Opinion(event_id="b", author="bob", accepted=False))
    assert not [one for one in observing.take() if isinstance(one, Opined)]
