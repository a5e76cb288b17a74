"""Starts the predictor."""

from lepton.runtime.service import run
from services.predictor.app import build
from services.predictor.settings import PredictorSettings

run(build, PredictorSettings)
