"""What the watchdog decides: pure, fed with inputs and ticks, so that a recorded day replays to the same decisions."""
