"""What a person can hold back on the running stack, and let go again."""

import httpx
import pytest

from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(240)]


async def test_a_key_is_throttled_and_released_by_a_person_and_others_never_notice(stack: LocalStack) -> None:
    made = await stack.post("/v1/keys", {"scopes": ["read"]})
    said = await stack.lepton("keys", "throttle", made["key_id"], "--rate", "0.01", "--for", "600")
    assert "sent to gateway" in said
    async with stack.rest_client(made["key"]) as client:
        async def held() -> httpx.Response | None:
            answer = await client.get("/v1/pipelines")
            return answer if answer.status_code == 429 else None
        refused = await apoll_until(held, "the key to be held back", 30)
        assert refused is not None
        assert int(refused.headers["retry-after"]) >= 1
        for _ in range(5):
            await stack.get("/v1/pipelines")
        await stack.lepton("keys", "release", made["key_id"])

        async def free() -> bool:
            # One of five may have waited for its turn; all of them at once are free.
            return [(await client.get("/v1/pipelines")).status_code for _ in range(5)] == [200] * 5
        await apoll_until(free, "the key to be released", 30)
