"""What is printed once the stack is up: addresses, the key, and three lines to try that work as printed."""

import json
import sys
from pathlib import Path
from typing import Any

import httpx

from deploy.local import credentials, ports
from deploy.local.ports import Stack
from deploy.local.servers import grpcurl
from lepton.errors import LeptonError

EXAMPLE = "phishing"
_ROW = {"empty_server_form_handler": 1.0, "popup_window": 0.5, "https": 1.0, "request_from_other_domain": 0.5,
        "anchor_from_other_domain": 0.0, "is_popular": 0.5, "long_url": 0.0, "age_of_domain": 1, "ip_in_url": 0}
_TIMEOUT_S = 5.0


def lines(stack: Stack, *, first_time: bool) -> list[str]:
    """The greeting; the key itself is only in it the first time."""
    lepton = Path(sys.executable).parent / "lepton"
    key = credentials.stored()
    shown = key.text if key and first_time else f"{lepton} key"
    told = ["", "Lepton is up.", f"  REST      {stack.rest}   (documentation: {stack.rest}/docs)",
            f"  gRPC      {stack.grpc}   (Open Inference Protocol, lepton.v1.Prediction)", f"  Kafka     {stack.kafka}",
            f"  key       {shown}" + ("   (shown once; later: lepton key)" if key and first_time else ""),
            f"  logs      {stack.logs}", "", "Try:"]
    served = key is not None and _has_champion(stack, key)
    authorization = f'"authorization: Bearer $({lepton} key)"'
    told += [f"  {_curl(stack, authorization, served)}", f"  {_grpcurl(stack, authorization, served)}",
             f"  {_producer(stack, key)}", ""]
    return [*told, f"Then: {lepton} status; what went wrong and was healed: {lepton} incidents"]


def _curl(stack: Stack, authorization: str, served: bool) -> str:
    if not served:
        return f"curl -s -H {authorization} {stack.rest}/v1/status"
    return (f"curl -s -H {authorization} -H 'content-type: application/json' -d '{json.dumps({'rows': [_ROW]})}' "
            f"{stack.rest}/v1/models/{EXAMPLE}/predict")


def _grpcurl(stack: Stack, authorization: str, served: bool) -> str:
    if not grpcurl.present():
        return "(no grpcurl: it is built by `up` where Go is installed)"
    call = f"{grpcurl.binary()} -plaintext -H {authorization}"
    if not served:
        return f"{call} {stack.grpc} inference.GRPCInferenceService/ServerReady"
    request = json.dumps({"model": EXAMPLE, "rows": [_ROW]})
    return f"{call} -d '{request}' {stack.grpc} lepton.v1.Prediction/Predict"


def _producer(stack: Stack, key: credentials.Key | None) -> str:
    if stack.kafka_bootstrap:
        return f"(your Kafka at {stack.kafka}: send events with your own producer)"
    if key is None or _get(stack, key, f"/v1/pipelines/{EXAMPLE}") is None:
        return "(a Kafka producer line follows once the example is applied: lepton apply -f " \
               "examples/phishing/pipeline.yaml)"
    # A new id each time: the same one again would rightly have no second effect.
    event = json.dumps({"event_id": "by-hand-'$(date +%s)'", "entity_id": "by-hand", **_ROW})
    return (f"echo '{event}' | {stack.console_producer} --bootstrap-server {stack.kafka} "
            f"--topic lepton-events-{EXAMPLE}")


def _has_champion(stack: Stack, key: credentials.Key) -> bool:
    model = _get(stack, key, f"/v1/models/{EXAMPLE}")
    return bool(model and int(model.get("champion") or 0))


def _get(stack: Stack, key: credentials.Key, path: str) -> dict[str, Any] | None:
    try:
        answer = httpx.get(stack.rest + path, headers=key.header, timeout=_TIMEOUT_S)
    except httpx.HTTPError:
        return None
    return dict(answer.json()) if answer.is_success else None


def print_key(home: Path) -> None:
    """The key as it goes into an `authorization` header, alone on a line. Raises Missing where there is none."""
    key = credentials.stored()
    if key is None:
        stack = ports.load(home)
        if stack is None:
            raise LeptonError("no stack was brought up here", place=str(home), remedy="`lepton up`")
        key = credentials.from_bootstrap(stack)
    print(key.text)
