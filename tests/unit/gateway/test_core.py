"""Limits and routing as numbers, without a clock or a wire."""

import pytest

from lepton.contracts.pb import telemetry_pb2
from lepton.errors import Busy, Missing, Unavailable
from services.gateway.core.limits import MAX_BUCKETS, Limits
from services.gateway.core.routing import FAILURES_TO_EJECT, LONGEST_EJECTION_S, SILENT_S, Replica, Routing


def instance(name: str, load: float = 0.0, boot: str = "b", state: int = telemetry_pb2.INSTANCE_STATE_READY,
             model: str = "shop") -> telemetry_pb2.Instance:
    return telemetry_pb2.Instance(
        instance=name, service="predictor", boot_id=boot, state=state, address=f"{name}:1", load=load,  # type: ignore[arg-type]
        models=[telemetry_pb2.ServedModel(model=model, version=1)])


def routing(*names: str) -> Routing:
    made = Routing()
    for name in names:
        made.heard(instance(name), now=0)
    return made


def fail(made: Routing, replica: Replica, times: int, now: float) -> None:
    for _ in range(times):
        made.began(replica)
        made.ended(replica, failed=True, now=now)


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    limits = Limits(rate_per_s=10, burst=3)
    for _ in range(3):
        limits.take("k", now=0)
    with pytest.raises(Busy) as busy:
        limits.take("k", now=0)
    assert busy.value.retry_after_s == pytest.approx(0.1)
    limits.take("other", now=0)
    limits.take("k", now=0.1)
    with pytest.raises(Busy):
        limits.take("k", now=0.1)
    for _ in range(3):
        limits.take("k", now=1000)


def test_requests_spread_over_replicas_by_what_is_under_way() -> None:
    made = routing("a", "b")
    first = made.pick("shop", 0)
    made.began(first)
    second = made.pick("shop", 0)
    made.began(second)
    assert {first.instance, second.instance} == {"a", "b"}
    made.ended(first, failed=False, now=0)
    assert made.pick("shop", 0).instance == first.instance


def test_idle_replicas_take_turns() -> None:
    made = routing("a", "b")
    asked = []
    for _ in range(4):
        replica = made.pick("shop", 0)
        made.began(replica)
        made.ended(replica, failed=False, now=0)
        asked.append(replica.instance)
    assert sorted(asked) == ["a", "a", "b", "b"]


def test_a_replica_that_fails_in_a_row_is_left_alone_each_time_longer() -> None:
    made = routing("a", "b")
    bad = made.pick("shop", 0)
    fail(made, bad, FAILURES_TO_EJECT, now=0)
    assert all(made.pick("shop", 0.9).instance != bad.instance for _ in range(3))
    made.heard(instance(bad.instance), now=1)
    fail(made, bad, FAILURES_TO_EJECT, now=1)
    other = made.pick("shop", 2.9)
    assert other.instance != bad.instance, "the second ejection lasts two seconds"
    made.began(other)
    assert made.pick("shop", 3.1).instance == bad.instance
    for _ in range(20):
        fail(made, bad, FAILURES_TO_EJECT, now=4)
    assert bad.circuit.ejected_until <= 4 + LONGEST_EJECTION_S


def test_one_success_forgives_and_a_restart_begins_afresh() -> None:
    made = routing("a", "b")
    bad = made.pick("shop", 0)
    fail(made, bad, FAILURES_TO_EJECT - 1, now=0)
    made.ended(bad, failed=False, now=0)
    fail(made, bad, FAILURES_TO_EJECT - 1, now=0)
    assert bad.circuit.ejected_until < 0
    fail(made, bad, 1, now=0)
    made.heard(instance(bad.instance, boot="b2"), now=0.1)
    assert {made.pick("shop", 0.1, [name]).instance for name in ("a", "b")} == {"a", "b"}
    fail(made, bad, 10, now=0.2)
    assert {made.pick("shop", 0.2, [name]).instance for name in ("a", "b")} == {"a", "b"}, \
        "failures of the process before count against nobody"


def unable(made: Routing, replica: Replica, times: int, now: float, model: str | None = "shop") -> None:
    for _ in range(times):
        made.began(replica)
        made.ended(replica, failed=False, now=now, model=model, unable=True)


def serving(name: str, **versions: int) -> telemetry_pb2.Instance:
    said = instance(name)
    del said.models[:]
    said.models.extend(telemetry_pb2.ServedModel(model=model, version=version) for model, version in versions.items())
    return said


def test_a_model_that_fails_is_left_alone_and_its_replica_asked_for_others() -> None:
    made = Routing()
    made.heard(serving("a", shop=1, other=1), now=0)
    made.heard(instance("b", load=5), now=0)
    bad = made.pick("shop", 0)
    unable(made, bad, FAILURES_TO_EJECT - 1, now=0)
    made.ended(bad, failed=False, now=0, model="shop")
    unable(made, bad, FAILURES_TO_EJECT - 1, now=0)
    assert made.pick("shop", 0).instance == "a", "one success forgives"
    unable(made, bad, 1, now=0)
    assert (made.pick("shop", 0.9).instance, made.pick("shop", 1.1).instance) == ("b", "a")
    assert made.pick("other", 0).instance == made.pick(None, 0).instance == "a"
    assert made.unreached(0)["a"] == 0.0
    made.heard(serving("a", shop=1, other=1), now=0.5)
    assert made.pick("shop", 0.5).instance == "b"
    made.heard(serving("a", shop=2, other=1), now=0.6)
    assert made.pick("shop", 0.6).instance == "a", "another version is judged afresh"


def test_an_answer_that_it_cannot_ends_being_out_of_reach_and_unknown_names_are_not_kept() -> None:
    made = routing("a")
    replica = made.pick("shop", 0)
    fail(made, replica, 2, now=1)
    unable(made, replica, 9, now=2, model="unknown")
    unable(made, replica, 9, now=2, model=None)
    assert (replica.missed_since, replica.circuit.failures, replica.by_model) == (None, 0, {})


def test_when_all_have_failed_one_is_asked_all_the_same() -> None:
    made = routing("a")
    fail(made, made.pick("shop", 0), FAILURES_TO_EJECT, now=0)
    assert made.pick("shop", 0).instance == "a"


def test_a_drained_replica_is_asked_only_where_no_other_can_be() -> None:
    made = routing("a", "b")
    drained = instance("a", state=telemetry_pb2.INSTANCE_STATE_DRAINING)
    drained.drained = True
    made.heard(drained, now=1)
    assert {made.pick("shop", 1).instance for _ in range(4)} == {"b"}
    assert made.pick("shop", 1, ["b"]).instance == "a"
    assert {one.instance for one in made.everyone("shop", 1)} == {"a", "b"}
    made.heard(instance("b", model="other"), now=2)
    assert made.pick("shop", 2).instance == "a"
    made.gone("b")
    assert made.pick("shop", 2).instance == made.pick(None, 2).instance == "a"
    made.heard(instance("a"), now=3)
    assert made.pick("shop", 3).ready


def test_silent_leaving_and_unready_replicas_are_not_asked() -> None:
    made = routing("a")
    with pytest.raises(Unavailable):
        made.pick("shop", SILENT_S + 0.1)
    made.heard(instance("a", state=telemetry_pb2.INSTANCE_STATE_DRAINING), now=10)
    with pytest.raises(Unavailable):
        made.pick("shop", 10)
    made.heard(instance("a"), now=11)
    with pytest.raises(Unavailable):
        made.pick("shop", 11, ["a"])
    with pytest.raises(Missing):
        made.pick("other", 11)
    made.gone("a")
    with pytest.raises(Unavailable):
        made.pick("shop", 11)


def test_keys_that_rest_cost_no_memory() -> None:
    limits = Limits(rate_per_s=10, burst=1)
    for number in range(MAX_BUCKETS):
        limits.take(f"k{number}", now=0)
    with pytest.raises(Busy):
        limits.take("k0", now=0)
    limits.take("new", now=1)
    limits.take("k0", now=1)


def test_how_long_calls_had_no_answer_is_known_until_one_has_or_nobody_asks() -> None:
    made = routing("a", "b")
    first = made.pick("shop", 0)
    for began, now in ((1.0, 8.0), (2.0, 9.0)):
        made.began(first)
        made.ended(first, failed=True, now=now, began=began)
    assert made.unreached(9.5)[first.instance] == 8.0
    assert sorted(made.unreached(9.5).values()) == [0.0, 8.0]
    assert made.unreached(100.0)[first.instance] == 0.0
    made.began(first)
    made.ended(first, failed=False, now=10.0)
    assert made.unreached(10.5)[first.instance] == 0.0
    fail(made, first, 2, now=11.0)
    made.heard(instance(first.instance, boot="another"), now=12.0)
    assert made.unreached(12.0)[first.instance] == 0.0
