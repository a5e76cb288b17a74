"""`python -m deploy.actuator`."""

from deploy.actuator.app import build
from deploy.actuator.settings import ActuatorSettings
from lepton.runtime.service import run

run(build, ActuatorSettings)
