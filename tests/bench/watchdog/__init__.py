"""How much the watchdog takes in, and how fast it decides."""
