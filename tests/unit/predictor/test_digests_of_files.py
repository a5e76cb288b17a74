"""Where the digest of a model file is reckoned: much of it beside the event loop, which answers requests meanwhile."""

import threading

import pytest

from lepton.store import artifacts


@pytest.mark.parametrize(("size_bytes", "here"), [(1 << 20, True), ((1 << 20) + 1, False)])
async def test_much_data_is_digested_on_a_thread(monkeypatch: pytest.MonkeyPatch, size_bytes: int, here: bool) -> None:
    data, plain, threads = bytes(size_bytes), artifacts.sha256_hex, []

    def digested(given: bytes) -> str:
        threads.append(threading.current_thread() is threading.main_thread())
        return plain(given)

    monkeypatch.setattr(artifacts, "sha256_hex", digested)
    assert await artifacts.digest_of(data) == plain(data)
    assert threads == [here]
