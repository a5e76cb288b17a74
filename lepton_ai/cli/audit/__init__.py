"""`lepton audit`: who did what, and whether the log of it still is what was written."""
