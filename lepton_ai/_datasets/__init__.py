"""`client.datasets`: what Lepton has stored, listed, profiled, frozen, split, corrected, written out and erased."""
