"""Starts the trainer."""

from lepton.runtime.service import run
from services.trainer.app import build
from services.trainer.settings import TrainerSettings

run(build, TrainerSettings)
