"""Every promise of `lepton/bus/records.py`, tested against memory and against a real Kafka."""
