"""`lepton chaos run`: a plan of faults against the whole platform, told fault by fault."""

from pathlib import Path

import pytest

from examples.phishing.write import websites
from examples.writing import write
from tests.harness.stack import LocalStack

RUN_S = 300
"""A run waits for 180 s of it before it gives up a stack that is not well."""

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(RUN_S + 60)]

PLAN = """
apiVersion: lepton/v1
kind: Chaos
metadata: {name: short}
pipeline: phishing
flow: {rows: websites.csv, label: is_phishing}
# Of a machine that runs tests, and of what other tests here may leave to be told.
ignore: ["resources:*"]
settle_s: 3
faults:
  - {name: predictor killed, do: kill, target: predictor-0,
     expect: {symptom: [silence], cause: ["process:predictor-0"], detected_s: 20, healed_s: 60}}
  - {name: poisoned events, do: poison, field: https, for_s: 20,
     expect: {symptom: [broken_data], cause: ["data:phishing/chaos/poisoned-events-*"], detected_s: 40, healed_s: 90}}
  - {name: broker paused, do: hang, target: kafka, for_s: 8,
     expect: {symptom: [silence], cause: ["dependency:broker"], detected_s: 20, healed_s: 60}}
  - {name: a bad model is promoted, do: bad_model, for_s: 10,
     expect: {symptom: [quality_loss], cause: ["model:phishing"], detected_s: 60, healed_s: 120}}
  - {name: the bytes of a model are changed, do: corrupt_model, for_s: 10,
     expect: {symptom: [lost_file], cause: ["dependency:store/phishing"], detected_s: 40, healed_s: 90}}
budget: {failed_calls: 0.95}
"""


async def test_a_plan_is_struck_seen_healed_and_told(trained_stack: LocalStack, tmp_path: Path) -> None:
    write(websites(), tmp_path / "websites.csv")
    (tmp_path / "plan.yaml").write_text(PLAN)
    out = tmp_path / "table.md"
    said = await trained_stack.lepton("chaos", "run", str(tmp_path / "plan.yaml"), "--out", str(out),
                                      "--home", str(trained_stack.home), timeout_s=RUN_S)
    assert "5 faults: 5 of 5 detected, 5 of 5 the cause right, 5 of 5 healed and verified" in said
    assert "0 events lost, 0 doubled" in said
    done = {line.split(" | ")[0].strip("| "): line.split(" | ")[4] for line in out.read_text().splitlines()
            if "`--only" in line}
    assert done == {"predictor killed": "restart", "poisoned events": "quarantine", "broker paused": "–",
                    "a bad model is promoted": "roll_back",
                    "the bytes of a model are changed": "roll_back"}


async def test_a_budget_that_is_spent_ends_the_run(trained_stack: LocalStack, tmp_path: Path) -> None:
    write(websites(), tmp_path / "websites.csv")
    control = "  - {name: %s, do: nothing, for_s: 1, expect: {cause: [nobody], detected_s: 1, healed_s: 1}}\n"
    (tmp_path / "plan.yaml").write_text(PLAN[:PLAN.index("  - {name")] + control % "first" + control % "second" +
                                        "budget: {unhealed: 0}\n")
    said = await trained_stack.lepton("chaos", "run", str(tmp_path / "plan.yaml"), "--home", str(trained_stack.home),
                                      expect=1, timeout_s=RUN_S)
    assert "first, round 1 of 1" in said
    assert "second, round 1 of 1" not in said
    assert "Ended before its time: more than 0 faults were not healed" in said
