"""An API key is shown once, stored hashed, and recognised."""

from dataclasses import replace

import pytest

from lepton.contracts.apikeys import KeyRecord, Scope, bearer, matches, new_key, parse_bearer
from lepton.errors import Refused


def test_a_new_key_is_recognised_and_no_other_secret_is() -> None:
    key_id, secret, record = new_key([Scope.READ, Scope.PREDICT, Scope.READ], "a laptop")
    assert matches(record, secret)
    assert not matches(record, secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    assert not matches(record, new_key()[1])
    assert record.scopes == (Scope.PREDICT, Scope.READ)
    assert (record.key_id, record.description) == (key_id, "a laptop")


def test_the_record_does_not_hold_the_secret_and_two_keys_share_nothing() -> None:
    _, secret, record = new_key()
    assert secret not in repr(record)
    assert new_key()[2].salt != record.salt


def test_a_revoked_or_damaged_record_matches_nothing() -> None:
    _, secret, record = new_key()
    assert not matches(replace(record, revoked=True), secret)
    assert not matches(replace(record, salt="%%"), secret)


def test_admin_implies_every_scope_until_revoked() -> None:
    admin = new_key()[2]
    reader = new_key([Scope.READ])[2]
    assert all(admin.allows(scope) for scope in Scope)
    assert [scope for scope in Scope if reader.allows(scope)] == [Scope.READ]
    assert not replace(admin, revoked=True).allows(Scope.READ)


def test_a_header_carries_id_and_secret() -> None:
    key_id, secret, _ = new_key()
    assert parse_bearer(bearer(key_id, secret)) == (key_id, secret)
    assert parse_bearer(f"bearer  {key_id}.{secret} ") == (key_id, secret)


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer hunter2", "Basic bGtfOg==", "Bearer lk_0123.abc",
                                   "Bearer lk_0123456789abcdef." + "x" * 44])
def test_anything_else_is_refused_without_being_repeated(value: str | None) -> None:
    with pytest.raises(Refused) as caught:
        parse_bearer(value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.field == "authorization"


def test_a_record_survives_the_store_and_unknown_scopes_give_nothing() -> None:
    _, _, record = new_key([Scope.READ, Scope.ADMIN], "a laptop")
    stored = {**record.to_document(), "created_by": "bootstrap"}
    assert KeyRecord.from_document(stored) == record
    assert KeyRecord.from_document({**stored, "scopes": ["read", "rule"]}).scopes == (Scope.READ,)
