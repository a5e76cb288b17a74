"""The watchdog's decisions, driven by ticks and inputs alone."""
