"""Keys are remembered for a bounded time, renewed from the store, and never kept in clear."""

from dataclasses import replace

from lepton.contracts.apikeys import Scope, bearer, new_key
from services.predictor.core import keyring as keyrings
from services.predictor.core.keyring import UNKNOWN_S, Keyring


def test_a_header_is_recalled_until_its_key_is_forgotten() -> None:
    key_id, secret, record = new_key([Scope.PREDICT])
    keyring, header = Keyring(), bearer(key_id, secret)
    assert keyring.recall(header, 0) is None
    keyring.remember(header, record, 0)
    assert keyring.recall(header, 1) == record
    assert keyring.recall(header + "x", 1) is None
    keyring.forget(key_id)
    assert keyring.recall(header, 2) is None


def test_the_secret_is_not_kept() -> None:
    key_id, secret, record = new_key()
    keyring = Keyring()
    keyring.remember(bearer(key_id, secret), record, 0)
    assert secret not in repr(vars(keyring))


def test_a_key_is_due_within_the_time_it_may_be_kept() -> None:
    key_id, secret, record = new_key()
    keyring = Keyring(keep_s=30)
    keyring.remember(bearer(key_id, secret), record, 0)
    assert keyring.due(14) == []
    assert keyring.due(15) == [key_id]
    keyring.renew(key_id, record, 15)
    assert keyring.due(29) == []


def test_a_revoked_vanished_or_replaced_key_is_good_no_more() -> None:
    key_id, secret, record = new_key()
    for now_stored in (replace(record, revoked=True), None, replace(record, secret_sha256="0" * 64)):
        keyring = Keyring()
        keyring.remember(bearer(key_id, secret), record, 0)
        keyring.renew(key_id, now_stored, 15)
        assert keyring.recall(bearer(key_id, secret), 15) is None
    Keyring().renew(key_id, record, 15)


def test_changed_scopes_hold_after_renewal() -> None:
    key_id, secret, record = new_key([Scope.PREDICT])
    keyring = Keyring()
    keyring.remember(bearer(key_id, secret), record, 0)
    keyring.renew(key_id, replace(record, scopes=(Scope.READ,)), 15)
    recalled = keyring.recall(bearer(key_id, secret), 15)
    assert recalled is not None
    assert not recalled.allows(Scope.PREDICT)


def test_a_key_nobody_uses_is_forgotten_instead_of_renewed() -> None:
    key_id, secret, record = new_key()
    keyring = Keyring(keep_s=30, unused_s=600)
    keyring.remember(bearer(key_id, secret), record, 0)
    assert keyring.due(601) == []
    assert keyring.recall(bearer(key_id, secret), 601) is None


def test_an_unknown_key_is_not_asked_for_again_for_a_moment() -> None:
    keyring = Keyring()
    assert not keyring.is_unknown("lk_1", 0)
    keyring.remember_unknown("lk_1", 0)
    assert keyring.is_unknown("lk_1", UNKNOWN_S / 2)
    assert not keyring.is_unknown("lk_1", UNKNOWN_S)


def test_what_is_remembered_is_bounded() -> None:
    keyring = Keyring()
    headers = []
    for _ in range(3):
        key_id, secret, record = new_key()
        headers.append(bearer(key_id, secret))
        keyring.remember(headers[-1], record, 0)
    keyring.recall(headers[0], 1)
    limit, keyrings.MAX_REMEMBERED = keyrings.MAX_REMEMBERED, 3
    try:
        key_id, secret, record = new_key()
        keyring.remember(bearer(key_id, secret), record, 1)
        for number in range(9):
            keyring.remember_unknown(f"lk_{number}", 1)
    finally:
        keyrings.MAX_REMEMBERED = limit
    assert keyring.recall(headers[0], 2) is not None
    assert keyring.recall(headers[1], 2) is None
    assert not keyring.is_unknown("lk_0", 1)
    assert keyring.is_unknown("lk_8", 1)
