"""How `bus/kafka.py` uses aiokafka: nothing outside `lepton.bus` imports this package."""
