"""What a route answers that has the trainer do something: the command's ids, and where its outcome is to be seen."""

from fastapi import Response

from services.gateway.edge.http.answers import Responses, answer, described
from services.gateway.flow.models import Asked

COMMAND = {"title": "Command", "type": "object", "properties": {
    "command_id": {"type": "string"}, "run_id": {"type": "string"}}}
COMMAND_EXAMPLE = {"command_id": "request-77", "run_id": "run-1f0c"}
ASKED: Responses = {202: described("The command is durable; `/v1/runs/{run_id}` says what became of it.", COMMAND,
                                   COMMAND_EXAMPLE)}


def asked(command: Asked) -> Response:
    return answer({"command_id": command.command_id, "run_id": command.run_id}, 202)
