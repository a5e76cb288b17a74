"""The README's section "A prediction": every client in it answers as printed, and all of them the same."""

import ast
import asyncio
import json
import re
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from deploy.local.servers import grpcurl
from tests.harness import clients
from tests.harness.pages import ROOT
from tests.harness.stack import LocalStack

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(300)]

Answers = TypeVar("Answers")
GRPCURL = f"~/.cache/lepton/{grpcurl.NAME}/grpcurl"


def block(language: str) -> str:
    """The first one of the section, as it is printed."""
    section = (ROOT / "README.md").read_text("utf-8").split("## A prediction\n")[1].split("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found, f"the README shows no {language} of a prediction"
    return found[1]


async def printed(stack: LocalStack, command: str) -> str:
    """What a shell in the repository's folder printed."""
    done = await asyncio.to_thread(subprocess.run, ["sh", "-ec", command], cwd=ROOT, env=stack.client_env,
                                   capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


async def by_one_version(stack: LocalStack, ask: Callable[[], Awaitable[Answers]]) -> Answers:
    """What was answered while the same version answered all of it: a model may be published at any moment."""
    async def version() -> int:
        return int((await stack.post("/v1/models/phishing/predict", {"rows": [{"https": 1.0}]}))["version"])

    for _ in range(5):
        before, told = await version(), await ask()
        if await version() == before:
            return told
    raise AssertionError("each time another version was published meanwhile")


async def test_curl_grpcurl_and_the_sdk_answer_as_printed(trained_stack: LocalStack) -> None:
    first, *commands = block("sh").splitlines()
    assert [command.split()[0] for command in commands] == ["curl", GRPCURL, ".venv/bin/python"]
    # Where it was built, on a machine whose cache lies elsewhere.
    here = str(await asyncio.to_thread(grpcurl.binary))

    async def ask() -> list[str]:
        return [await printed(trained_stack, f"{first}\n{command.replace(GRPCURL, here)}") for command in commands]

    by_rest, by_grpc, by_sdk = await by_one_version(trained_stack, ask)
    asked: list[dict[str, Any]] = [json.loads(by_rest)["rows"][0], json.loads(by_grpc)["rows"][0],
                                   ast.literal_eval(by_sdk)[0]]
    assert {row["label"] for row in asked} <= {"true", "false"}
    for row in asked[1:]:
        assert row["label"] == asked[0]["label"]
        assert row["probabilities"] == pytest.approx(asked[0]["probabilities"], abs=1e-6)


async def test_tritonclient_answers_as_printed(trained_stack: LocalStack, tmp_path: Path) -> None:
    first = block("sh").splitlines()[0]
    python = await asyncio.to_thread(clients.environment)
    program = tmp_path / "asking.py"
    program.write_text(block("python"))
    pipeline = await trained_stack.get("/v2/models/phishing")
    ones = {field["name"]: 1 for field in pipeline["inputs"] if not field["name"].startswith("_")}

    async def ask() -> tuple[str, dict[str, Any]]:
        return (await printed(trained_stack, f"{first}\n{python}/bin/python {program}"),
                await trained_stack.post("/v1/models/phishing/predict", {"rows": [ones]}))

    told, by_rest = await by_one_version(trained_stack, ask)
    assert [float(number) for number in re.findall(r"[\d.e+-]+", told)] == pytest.approx(
        list(by_rest["rows"][0]["probabilities"].values()), abs=1e-5)
