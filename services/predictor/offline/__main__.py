"""`python -m services.predictor.offline`; `lepton edge serve` starts it with its settings."""

from lepton.runtime.service import run
from services.predictor.offline.app import build
from services.predictor.offline.settings import EdgeSettings

run(build, EdgeSettings)
