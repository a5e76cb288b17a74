"""The nightly backup's manifest, against the command, the settings and the image it goes by."""

import re
from pathlib import Path
from typing import Any

import yaml

from deploy.backup.settings import BackupSettings
from lepton.runtime.settings import variables

ROOT = Path(__file__).parents[2]
JOB: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "k8s" / "backup.yaml").read_text())
POD = JOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def test_it_is_a_cron_job_of_which_only_one_runs() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("batch/v1", "CronJob")
    assert JOB["spec"]["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"\S+ \S+ \S+ \S+ \S+", JOB["spec"]["schedule"])
    assert POD["restartPolicy"] == "Never"


def test_its_command_is_the_images_own_and_its_variables_are_settings() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    stage = dockerfile.split("FROM floor AS backup")[1].split("\nFROM ")[0]
    assert f'CMD {CONTAINER["command"]}'.replace("'", '"') in stage
    known = {name for field in BackupSettings.model_fields for name in variables(BackupSettings, field)}
    assert {one["name"] for one in CONTAINER["env"]} <= known


def test_every_folder_it_reads_is_mounted_and_only_backups_are_written() -> None:
    mounted = {one["mountPath"]: one for one in CONTAINER["volumeMounts"]}
    given = [one["value"] for one in CONTAINER["env"] if one.get("value", "").startswith("/")]
    assert all(any(value.startswith(path) for path in mounted) for value in given)
    assert {path for path, one in mounted.items() if not one.get("readOnly")} == {"/backups"}
    assert {one["name"] for one in CONTAINER["volumeMounts"]} == {one["name"] for one in POD["volumes"]}
