"""The files of log store and collector, of compose and of Kubernetes, agree with each other and with the services."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COLLECTOR: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "otel" / "collector.yaml").read_text())
OBSERVED: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose" / "observability.yaml").read_text())["services"]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose" / "services.yaml").read_text())
MANIFESTS = list(yaml.safe_load_all((ROOT / "deploy" / "k8s" / "logs.yaml").read_text()))


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return dict(found)


def test_every_part_of_a_pipeline_of_the_collector_is_declared_and_every_signal_has_one() -> None:
    pipelines = COLLECTOR["service"]["pipelines"]
    assert set(pipelines) == {"traces", "logs", "metrics"}
    for part in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline.get(part, [])}
        assert used == set(COLLECTOR[part])
    # A limit of memory works only before everything else.
    assert all(one["processors"][0] == "memory_limiter" for one in pipelines.values() if "processors" in one)


def test_services_send_to_the_collector_and_it_sends_to_services_that_are_there() -> None:
    endpoint = SERVICES["x-environment"]["LEPTON_OTLP_ENDPOINT"]
    assert endpoint == "http://collector:4317"
    assert COLLECTOR["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317")
    exporters = COLLECTOR["exporters"]
    logs = re.fullmatch(r"\$\{env:(\w+):-(http://(\w+):(\d+)/insert/opentelemetry/v1/logs)\}",
                        exporters["otlphttp/logs"]["logs_endpoint"])
    traces = re.fullmatch(r"\$\{env:(\w+):-(\w+):4317\}", exporters["otlp/traces"]["endpoint"])
    assert logs is not None
    assert traces is not None
    assert {logs[3], traces[2]} <= set(OBSERVED)
    assert f"127.0.0.1:{logs[4]}:{logs[4]}" in OBSERVED[logs[3]]["ports"]
    (container,) = manifest("Deployment", "collector")["spec"]["template"]["spec"]["containers"]
    assert {one["name"]: one["value"] for one in container["env"]} == {logs[1]: logs[2], traces[1]: f"{traces[2]}:4317"}


def test_kubernetes_runs_the_same_versions_with_the_same_configuration() -> None:
    for kind, name in (("StatefulSet", "logs"), ("Deployment", "collector")):
        spec = manifest(kind, name)["spec"]
        (container,) = spec["template"]["spec"]["containers"]
        assert container["image"] == OBSERVED[name]["image"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        assert manifest("Service", name)["spec"]["selector"] == spec["selector"]["matchLabels"]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert [ports[one["targetPort"]] for one in manifest("Service", name)["spec"]["ports"]] == list(ports.values())
    assert manifest("Deployment", "collector")["spec"]["template"]["spec"]["containers"][0]["args"] == (
        OBSERVED["collector"]["command"])
    mounted = OBSERVED["collector"]["volumes"][0].partition(":")[0]
    assert (ROOT / "deploy" / "compose" / mounted / "collector.yaml").resolve().is_file()
