"""A backup gives back what was put in; whatever was done to the file, to any byte of it, is found."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.backup.archive import parts, sealing
from deploy.backup.archive.records import account, decode, encode
from deploy.backup.archive.secret import Secret, read_key, read_passphrase, write_key
from deploy.backup.archive.tally import Tally
from lepton.bus.records import Record
from lepton.errors import Invalid, LeptonError, Missing, Refused
from tests.unit.backup.conftest import Write

SEALED = sealing.CHUNK_BYTES + sealing.TAG_BYTES


def three_chunks() -> dict[str, list[bytes]]:
    return {"database/runs": [os.urandom(sealing.CHUNK_BYTES), b"", b"end"], "topics/empty": [],
            "files/keys/operator.json": [b"x" * sealing.CHUNK_BYTES]}


def whole(path: Path, secret: Secret) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, frame in parts.walk(path, secret):
        found[name] = found.get(name, b"") + frame
    return found


def header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(len(sealing.MAGIC) + 4)
    return len(head) + int.from_bytes(head[-4:], "big")


def test_what_was_put_in_comes_out_in_order(write: Write, secret: Secret) -> None:
    put = three_chunks()
    path = write(put)
    manifest = parts.check(path, secret)
    assert [part.name for part in manifest.parts] == list(put)
    assert [part.items for part in manifest.parts] == [3, 0, 1]
    assert whole(path, secret) == {name: b"".join(frames) for name, frames in put.items()}
    assert path.stat().st_mode & 0o077 == 0
    assert list(path.parent.glob("*" + parts.UNFINISHED)) == []


def test_on_a_full_disk_no_draft_is_left(tmp_path: Path, secret: Secret) -> None:
    path = tmp_path / "shop.backup"

    def half() -> None:
        with parts.ArchiveWriter(path, secret, {}) as archive:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, archive._file.fileno())
            os.close(full)
            archive.begin("database/runs")

    with pytest.raises(OSError, match="No space left"):
        half()
    assert list(tmp_path.iterdir()) == []


def test_a_changed_byte_is_found_wherever_it_is(write: Write, secret: Secret) -> None:
    path = write(three_chunks())
    good, header = path.read_bytes(), header_bytes(path)
    # Every byte of the header, and of each chunk its edges, its middle and its tag.
    chunks = [header + number * SEALED + at for number in range((len(good) - header) // SEALED + 1)
              for at in (0, 1, SEALED // 2, SEALED - sealing.TAG_BYTES - 1, SEALED - sealing.TAG_BYTES, SEALED - 1)]
    for at in [*range(header), *(one for one in chunks if one < len(good)), len(good) - 1]:
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
        with pytest.raises(LeptonError):
            parts.check(path, secret)


def test_a_file_cut_off_anywhere_is_found(write: Write, secret: Secret) -> None:
    path = write(three_chunks())
    good, header = path.read_bytes(), header_bytes(path)
    ends = {0, 5, header - 1, header, *(header + number * SEALED for number in (1, 2)), header + 7, len(good) - 1}
    for end in sorted(ends):
        path.write_bytes(good[:end])
        with pytest.raises(Invalid):
            parts.check(path, secret)


def test_chunks_that_are_swapped_repeated_left_out_or_added_are_found(write: Write, secret: Secret) -> None:
    path = write(three_chunks())
    good, at = path.read_bytes(), header_bytes(path)
    head, one, two, rest = good[:at], good[at:at + SEALED], good[at + SEALED:at + 2 * SEALED], good[at + 2 * SEALED:]
    for forged in (head + two + one + rest, head + one + one + two + rest, head + two + rest, good + b"x", good + rest):
        path.write_bytes(forged)
        with pytest.raises(Invalid, match="damaged or cut off"):
            parts.check(path, secret)


def test_a_stream_that_ends_with_a_whole_chunk_too_early_gives_no_last_byte(secret: Secret) -> None:
    sink = io.BytesIO()
    sealer = sealing.Sealer(sink, secret, {"stack": "shop"})
    sealer.write(b"x" * (2 * sealing.CHUNK_BYTES))
    sealer.finish()
    good = sink.getvalue()
    assert len(sealing.Opener(io.BytesIO(good), secret, "here").read(2**20)) == 2 * sealing.CHUNK_BYTES
    opener = sealing.Opener(io.BytesIO(good[:-SEALED]), secret, "here")
    with pytest.raises(Invalid, match="cut off at chunk 0"):
        opener.read(1)


def test_a_chunk_of_another_backup_under_the_same_key_is_found(write: Write, secret: Secret) -> None:
    path, other = write(three_chunks()), write(three_chunks(), name="b.lepton-backup")
    good, foreign = path.read_bytes(), other.read_bytes()
    path.write_bytes(good[:header_bytes(path)] + foreign[header_bytes(other):])
    with pytest.raises(Invalid, match="damaged or cut off at chunk 0"):
        parts.check(path, secret)


def test_another_key_opens_nothing_and_is_told_from_damage(write: Write, secret: Secret) -> None:
    path = write(three_chunks())
    with pytest.raises(Refused, match="does not open this backup"):
        parts.check(path, Secret("key", bytes(32)))
    with pytest.raises(Refused, match="sealed under a key, and a passphrase was given"):
        parts.check(path, Secret("passphrase", b"long enough to be one"))
    assert parts.check(path, secret).signer == "operator"


def test_nothing_of_the_content_is_in_the_clear(write: Write) -> None:
    mark = b"private_key of somebody"
    assert mark not in write({"files/keys/operator.json": [mark * 10]}).read_bytes()


def test_a_passphrase_seals_and_opens(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "phrase"
    file.write_text("correct horse battery\nsecond line\n")
    secret = read_passphrase(file)
    path = write({"a": [b"1"]}, secret=secret)
    assert whole(path, secret) == {"a": b"1"}
    with pytest.raises(Refused):
        parts.check(path, Secret("passphrase", b"correct horse batterz"))
    file.write_text("short")
    with pytest.raises(Invalid, match="12 characters"):
        read_passphrase(file)


def test_a_header_cannot_ask_for_all_memory(secret: Secret) -> None:
    phrase = Secret("passphrase", b"long enough to be one")
    with pytest.raises(Invalid, match="out of bounds"):
        phrase.derive({**phrase.new_derivation(), "n": 2**40})
    with pytest.raises(Invalid):
        secret.derive({"from": "key"})


def test_a_key_file_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "safe" / "key"
    write_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(read_key(file).material) == 32
    with pytest.raises(Refused):
        write_key(file)
    file.write_text("lepton-backup-key-1:AAAA")
    with pytest.raises(Invalid, match="not a backup key"):
        read_key(file)
    with pytest.raises(Missing):
        read_key(tmp_path / "none")


def test_a_backup_that_is_not_finished_has_not_its_name(tmp_path: Path, secret: Secret) -> None:
    path = tmp_path / "a.lepton-backup"
    with pytest.raises(KeyError), parts.ArchiveWriter(path, secret, {}) as archive:
        archive.begin("a")
        raise KeyError
    assert list(tmp_path.glob("a.lepton-backup*")) == []


RECORDS = st.builds(
    Record, st.just("t"), st.integers(0, 2**31), st.integers(0, 2**62), st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=50),
    st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=3).map(tuple), st.integers(0, 2**62))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(RECORDS, max_size=5))
def test_records_come_back_as_they_were(records: list[Record]) -> None:
    assert decode("t", encode(records)) == records
    if records:
        with pytest.raises(Invalid):
            decode("t", encode(records)[:-1] if len(encode(records)) > 1 else b"x")


def test_a_tally_knows_a_set_whatever_its_order_and_adds_up() -> None:
    one, two, both = Tally(), Tally(), Tally()
    for data in (b"a", b"b"):
        one.add(data)
    two.add(b"c")
    for data in (b"c", b"a", b"b"):
        both.add(data)
    assert one + two == both == Tally(3, both.text)
    assert one != two
    assert account(Record("t", 0, 7, b"k", b"v", (), 9), with_offset=False) == \
        account(Record("u", 0, 8, b"k", b"v", (), 10), with_offset=False)
