"""Ways out for alerts that apprise does not have."""
