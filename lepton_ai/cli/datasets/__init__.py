"""`lepton datasets`: stored rows on the command line."""
