"""Runs ingest until it is asked to stop."""

from lepton.runtime.service import run
from services.ingest.app import build
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    run(build, IngestSettings)
