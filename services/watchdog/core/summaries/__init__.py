"""What other services counted before the watchdog hears of it."""
