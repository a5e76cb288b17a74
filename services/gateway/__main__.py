"""Starts the gateway."""

from lepton.runtime.service import run
from services.gateway.app import build
from services.gateway.settings import GatewaySettings

run(build, GatewaySettings)
