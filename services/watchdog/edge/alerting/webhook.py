"""Alertmanager's webhook as a way out: `webhook+http://` and `webhook+https://` addresses, a JSON body by POST."""

import json
from base64 import b64encode
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import unquote, urlsplit

SCHEMES: Final = ("webhook+http://", "webhook+https://")
TIMEOUT_S: Final = 10.0


def post(address: str, document: Mapping[str, Any]) -> bool:
    """Whether the answer was one of success; blocks. User and password of the address become basic authentication,
    a password without a user a bearer token: what the gateway of another Lepton takes.

    Redirects are not followed. Raises OSError when it cannot be reached, ValueError for an address that is none.
    """
    parts = urlsplit(address.removeprefix("webhook+"))
    if not parts.hostname:
        raise ValueError("the address names no host")
    headers = {"content-type": "application/json", "user-agent": "lepton"}
    if parts.username == "" and parts.password:
        headers["authorization"] = f"Bearer {unquote(parts.password)}"
    elif parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                           json.dumps(document).encode(), headers)
        return HTTPStatus.OK <= connection.getresponse().status < HTTPStatus.MULTIPLE_CHOICES
    except HTTPException as error:
        raise OSError(type(error).__name__) from error
    finally:
        connection.close()
