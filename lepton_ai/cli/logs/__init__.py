"""`lepton logs`."""
