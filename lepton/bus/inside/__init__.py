"""The parts of `bus/memory.py`: nothing outside `lepton.bus` imports this package."""
