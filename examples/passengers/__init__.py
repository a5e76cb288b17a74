"""River's bundled monthly airline passengers: next month's traffic forecast from the course of the last months."""
