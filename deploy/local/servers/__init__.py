"""The servers Lepton does not write itself: where each comes from, how it is configured, when it is ready."""
