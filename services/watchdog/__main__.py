"""Runs the watchdog until it is asked to stop."""

from lepton.runtime.service import run
from services.watchdog.app import build
from services.watchdog.settings import WatchdogSettings

if __name__ == "__main__":
    run(build, WatchdogSettings)
