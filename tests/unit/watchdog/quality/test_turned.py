"""Labels that turn over are told from models that are bad, and from worlds that changed."""


import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Answered, Approval, Judged, Leads, ModelSeen, Rules, Unusable
from services.watchdog.core.journal import replay
from services.watchdog.core.quality.turned import Agreed, over
from services.watchdog.core.thresholds.limits import QualityRule
from tests.unit.watchdog.quality.shop import LABELS, MODEL, NAMES, Shop, inverted
from tests.unit.watchdog.world import RULES, model


def test_labels_that_turn_over_under_a_version_they_called_well_are_blamed_and_nothing_learns_from_them() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    assert shop.kinds() == [LABELS]
    assert shop.world.last().state == "escalated"
    assert "false is called true" in shop.world.last().timeline[0].detail
    shop.feed(2, 300, inverted)
    assert shop.world.orders() == []
    shop.feed(2, 200)
    assert shop.world.last().state == "verified"
    assert "agree with the answers again" in shop.world.last().verdict
    assert shop.kinds() == [LABELS]
    assert list(replay(shop.world.written())) == shop.world.made


def test_labels_that_are_all_the_same_are_blamed() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 200, lambda truth: "true")
    assert shop.kinds()[0] == LABELS
    assert shop.world.orders() == []


def test_two_classes_of_many_that_change_their_names_are_blamed() -> None:
    shop = Shop(previous=1)
    names = ("a", "b", "c", "d")
    shop.feed(2, 300, names=names)
    shop.feed(2, 200, lambda truth: {"a": "b", "b": "a"}.get(truth, truth), names=names)
    assert shop.kinds() == [LABELS]
    assert shop.world.orders() == []


def test_a_version_whose_answers_were_never_right_is_rolled_back_at_once() -> None:
    shop = Shop()
    shop.feed(2, 200)
    shop.world.tick(model(3, previous=2))
    shop.feed(3, 60, inverted)
    (command,) = shop.world.commands()
    assert (shop.kinds(), command.action) == ([MODEL], "roll_back")
    shop.world.tick(Answered(command.command_id, "done"), model(2, revision=4))
    shop.feed(2, 100)
    assert shop.world.last().state == "verified"
    assert shop.kinds() == [MODEL]


def test_where_the_version_before_is_just_as_bad_though_it_was_fine_before_it_is_the_labels() -> None:
    shop = Shop()
    shop.feed(2, 200)
    shop.world.tick(model(3, previous=2))
    shop.feed(3, 100, inverted)
    shop.world.tick(Answered(shop.world.commands()[0].command_id, "done"), model(2, previous=1, revision=4))
    shop.feed(2, 200, inverted)
    assert shop.world.orders() == [("roll_back", "model:phishing")]
    assert shop.kinds() == [MODEL, LABELS]
    loss = next(one.incident for one in shop.world.decisions if one.incident.state == "verified")
    assert "it was not the model" in loss.verdict


def test_two_versions_that_nobody_knew_before_show_it_too() -> None:
    """After a restart: what labels said of them is forgotten, what they were published with is not."""
    shop = Shop(previous=1)
    shop.feed(2, 120, inverted)
    shop.world.tick(Answered(shop.world.commands()[0].command_id, "done"), model(1, previous=0, revision=4))
    shop.feed(1, 120, inverted)
    assert shop.kinds() == [MODEL, LABELS]
    assert shop.world.orders() == [("roll_back", "model:phishing")]


def test_a_version_that_learnt_from_them_does_not_make_them_right_and_is_left_once_they_are() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.world.tick(model(3, previous=2))
    shop.feed(3, 200, inverted, right=0.1)
    shop.world.tick(model(4, previous=3))
    assert shop.world.last().state == "escalated"
    shop.feed(4, 200, lambda truth: truth, right=0.9)
    assert shop.world.last().state == "escalated"
    shop.feed(4, 100, inverted)
    assert shop.kinds() == [LABELS, MODEL]
    assert shop.world.orders() == [("roll_back", "model:phishing")]
    shop.world.tick(model(3, previous=2, revision=9))
    shop.feed(3, 100, inverted)
    assert len({one.incident.id for one in shop.world.decisions if one.incident.symptom == "bad_labels"}) == 1
    assert "learnt from them" in next(one.incident.verdict for one in shop.world.decisions
                                      if one.incident.state == "verified")


@pytest.mark.parametrize(("before", "after"), [(10, 0), (0, 10)])
def test_labels_that_are_right_again_about_when_a_version_comes_are_well(before: int, after: int) -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.feed(2, before)
    shop.world.tick(model(3, previous=2))
    shop.feed(3, after, inverted)
    shop.feed(3, 100)
    assert shop.world.last().state == "verified"
    assert shop.kinds() == [LABELS]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("wrong", [0, 4])
def test_labels_that_are_right_again_in_the_moment_a_version_comes_are_well_by_those_that_came_late(
        wrong: int, at_once: bool) -> None:
    """The version before has labels that come after it was left: its last are right."""
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    late = [shop.row(2, inverted if place < wrong else str, 1.0, NAMES) for place in range(wrong + 5)]
    shop.world.tick(model(3, previous=2), *(late if at_once else []))
    shop.world.tick(*([] if at_once else late))
    shop.feed(3, 100)
    assert shop.world.last().state == "verified"
    assert shop.kinds() == [LABELS]
    assert list(replay(shop.world.written())) == shop.world.made


@pytest.mark.parametrize("late", [0, 2, 30])
def test_a_version_that_learnt_from_them_is_told_from_one_whose_labels_came_late(late: int) -> None:
    """The last labels of the version before, late or not, say that they were wrong when it was left."""
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.world.tick(model(3, previous=2), *(shop.row(2, inverted, 0.9, NAMES) for _ in range(late)))
    shop.feed(3, 30, inverted, right=0.1)
    # Of the version before the one before, nothing follows any more.
    shop.world.tick(*(shop.row(1, str, 1.0, NAMES) for _ in range(10)))
    shop.feed(3, 200, inverted, right=0.1)
    # Nor of what the one before is told once this one is found to agree.
    shop.world.tick(*(shop.row(2, str, 1.0, NAMES) for _ in range(10)))
    shop.feed(3, 50, inverted, right=0.1)
    assert shop.world.last().state == "escalated"
    shop.feed(3, 100, right=0.1)
    assert shop.kinds() == [LABELS, MODEL]


def test_what_is_hardly_better_than_chance_is_not_called_exchanged() -> None:
    rows = [Judged("p", 1, name, inverted(name) if place < 12 else name) for name in NAMES for place in range(20)]
    assert over(rows, Agreed(0.6)) == ""
    turned = [Judged("p", 1, name, inverted(name)) for name in NAMES * 20]
    assert "100% agree" in over(turned, Agreed(0.95))


def test_what_agrees_with_a_new_version_for_an_hour_is_how_it_is() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.world.tick(model(3, previous=2))
    for _ in range(65):
        shop.feed(3, 100)
        shop.world.now += 60
    assert shop.world.last().state == "verified"
    assert shop.kinds() == [LABELS]


@pytest.mark.parametrize("right", [0.5, 0.3])
def test_a_world_that_changed_is_the_models_to_follow(right: float) -> None:
    shop = Shop()
    shop.feed(2, 200)
    shop.feed(2, 200, right=right)
    assert shop.kinds() == [MODEL]
    assert shop.world.orders()[0] == ("retrain", "model:phishing")


def test_rows_that_changed_too_are_not_blamed_on_labels() -> None:
    shop = Shop()
    shop.feed(2, 200)
    drifting = shop.world.engine.state.patterns.by_pipeline["phishing"].fields
    drifting.standing["x"] = "it moved"
    shop.feed(2, 200, inverted)
    assert MODEL in shop.kinds()
    assert LABELS not in shop.kinds()


def test_rows_that_change_much_later_do_not_make_labels_right() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.world.run(310)
    shop.world.engine.state.patterns.by_pipeline["phishing"].fields.standing["x"] = "it moved"
    shop.feed(2, 100, inverted)
    assert MODEL not in shop.kinds()


def test_nothing_learns_from_them_whatever_else_is_wrong() -> None:
    shop = Shop()
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.world.tick(Unusable("predictor-0", "phishing", 2, refused="signature"))
    shop.world.run(5)
    assert ("unusable_model", "model:phishing") in shop.kinds()
    assert shop.world.orders() == []
    shop.feed(2, 100)
    shop.world.tick(Unusable("predictor-0", "phishing", 2, refused="signature"))
    shop.world.run(2)
    assert shop.world.orders() == [("retrain", "model:phishing")]


def test_numbers_are_never_blamed_on_labels() -> None:
    assert over([Judged("p", 1, -float(one), float(one)) for one in range(60)], Agreed(0.9)) == ""


def test_few_labels_wait_for_more_and_not_for_ever() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 25, inverted)
    shop.world.run(58)
    assert shop.kinds() == []
    shop.world.run(4)
    assert shop.kinds() == [LABELS]
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 30, lambda truth: NAMES[shop.random.random() < 0.5])
    assert shop.kinds() == []
    shop.world.run(62)
    assert shop.kinds() == [MODEL]


SEEDS, SHARES = range(12), (0.5, 0.2, 0.12)


@pytest.mark.parametrize("window", [100, 500])
@pytest.mark.parametrize("share", [*SHARES, 0.05])
@pytest.mark.parametrize("previous", [0, 1])
def test_no_good_version_is_left_or_trained_anew_for_labels_that_turned_over(
        previous: int, share: float, window: int) -> None:
    for seed in SEEDS:
        shop = Shop(previous, seed=seed, share=share, rules=of_window(window))
        shop.feed(2, 200)
        shop.feed(2, 250, inverted)
        assert (seed, shop.kinds()) == (seed, [LABELS])
        shop.feed(2, 150)
        assert shop.world.orders() == []
        assert (seed, shop.kinds(), shop.world.last().state) == (seed, [LABELS], "verified")
        assert len({one.incident.id for one in shop.world.decisions}) == 1


def of_window(window: int, min_labels: int = 60) -> Rules:
    return replace(RULES, quality=QualityRule("accuracy", window, min_labels, 0.15))


@pytest.mark.parametrize("share", SHARES)
def test_one_that_nobody_knows_and_none_went_before_is_not_trained_anew_on_them(share: float) -> None:
    for seed in SEEDS:
        shop = Shop(seed=seed, share=share)
        shop.feed(2, 200, inverted)
        assert (seed, shop.kinds(), shop.world.orders()) == (seed, [LABELS], [])


@pytest.mark.parametrize("share", SHARES)
def test_one_whose_first_labels_agreed_is_not_left_for_those_that_follow(share: float) -> None:
    """Labels turn over before there are enough to call the new version well."""
    for seed in SEEDS:
        shop = Shop(seed=seed, share=share)
        shop.feed(2, 200)
        shop.world.tick(model(3, previous=2))
        shop.feed(3, 40)
        shop.feed(3, 100, inverted)
        assert (seed, shop.world.orders()) == (seed, [])


@pytest.mark.parametrize("min_labels", [20, 60])
@pytest.mark.parametrize("share", SHARES)
def test_after_a_young_version_is_left_for_them_nothing_is_trained(share: float, min_labels: int) -> None:
    for seed in SEEDS:
        shop = Shop(seed=seed, share=share, rules=of_window(100, min_labels))
        shop.feed(2, 200)
        shop.world.tick(model(3, previous=2))
        shop.feed(3, 100, inverted)
        assert shop.world.orders() == [("roll_back", "model:phishing")]
        shop.world.tick(Answered(shop.world.commands()[0].command_id, "done"), model(2, previous=1, revision=4))
        shop.feed(2, 100, inverted, at_once=1, gap_s=2.0)
        assert (seed, shop.world.orders()[1:], shop.kinds()) == (seed, [], [MODEL, LABELS])


@pytest.mark.parametrize("opposite", [True, False])
@pytest.mark.parametrize("share", SHARES)
def test_a_bad_version_is_left_within_tens_of_labels_and_one_that_became_bad_in_time(
        share: float, opposite: bool) -> None:
    for seed in SEEDS:
        shop = Shop(seed=seed, share=share)
        shop.feed(2, 200)
        shop.world.tick(model(3, previous=2))
        began = shop.world.now
        # Answers that are mostly wrong, or have nothing to do with what is true.
        shop.feed(3, 150, right=0.1 if opposite else 0.5, at_once=50)
        assert (seed, shop.world.orders()) == (seed, [("roll_back", "model:phishing")])
        assert shop.world.now - began < 1.0


def test_of_seldom_labels_those_of_a_version_that_became_bad_are_waited_for_a_minute_at_most() -> None:
    for seed in SEEDS:
        shop = Shop(previous=1, seed=seed)
        shop.feed(2, 200)
        before, lost_at = shop.world.now, 0.0
        while not shop.world.orders():
            shop.feed(2, 1, right=0.5, at_once=1, gap_s=2.0)
            loss = shop.world.engine.state.loss("phishing")
            assert loss is not None
            lost_at = lost_at if lost_at and loss.lost else shop.world.now
        assert shop.world.now - lost_at <= 62
        assert shop.world.now - before < 400


def test_labels_that_come_to_be_wrong_otherwise_are_told_once_and_what_they_taught_before_is_forgotten() -> None:
    """Rows from before would show once more that they turned over."""
    for seed in SEEDS:
        shop = Shop(previous=1, seed=seed, rules=of_window(500))
        shop.feed(2, 200)
        shop.feed(2, 200, inverted)
        shop.feed(2, 400, right=0.5)
        told = [one.incident.id for one in shop.world.decisions if one.incident.symptom == "bad_labels"]
        assert (seed, len(set(told))) == (seed, 1)


def test_a_version_that_labels_proved_innocent_is_not_suspected_of_having_learnt_from_them() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.world.tick(model(3, previous=2))
    shop.feed(3, 100, inverted)
    shop.feed(3, 150)
    assert shop.world.last().state == "verified"
    shop.feed(3, 100, inverted)
    assert (shop.world.orders(), shop.kinds()) == ([], [LABELS])


def test_after_a_restart_labels_are_wrong_until_they_say_otherwise() -> None:
    shop = Shop(previous=1)
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    known = shop.world.last()
    for told, state in ((inverted, "escalated"), (lambda truth: truth, "verified")):
        later = Shop(previous=1)
        # Metrics at publication that do not say how often it was right.
        later.world.tick(ModelSeen("phishing", 9, 2, 1, {"accuracy": 0.9} if told is inverted else {}, 200),
                         Leads(2, (known,)))
        later.world.run(5)
        assert later.world.decisions == []
        later.feed(2, 100, told)
        found = later.world.engine.open.get(known.key) or later.world.last()
        assert found.state == state
        assert later.world.orders() == []
        assert list(replay(later.world.written())) == later.world.made


def test_a_training_that_waits_for_labels_is_told_of_once() -> None:
    shop = Shop()
    shop.feed(2, 200)
    shop.feed(2, 100, inverted)
    shop.world.tick(Unusable("predictor-0", "phishing", 2, refused="signature"))
    shop.world.run(30)
    told = [one.alert for one in shop.world.decisions if "waits until" in one.alert]
    assert len(told) == 1
    assert "a person is needed" in told[0]
    assert "retrain waits until labels are right" in told[0]


def test_a_yes_to_a_training_counts_once_labels_are_right() -> None:
    shop = Shop(rules=replace(RULES, approval=("retrain",)))
    shop.feed(2, 200)
    shop.world.tick(Unusable("predictor-0", "phishing", 2, refused="signature"))
    shop.world.run(2)
    asked = shop.world.last()
    assert asked.awaiting == "retrain"
    shop.feed(2, 100, inverted)
    shop.world.tick(Approval(asked.id, True, 0, "operator:lk_1"))
    assert shop.world.orders() == []
    assert "not while labels are wrong" in shop.world.decisions[-1].alert
    shop.feed(2, 100)
    shop.world.tick(Unusable("predictor-0", "phishing", 2, refused="signature"))
    shop.world.tick(Approval(asked.id, True, 0, "operator:lk_1"))
    assert shop.world.orders() == [("retrain", "model:phishing")]
