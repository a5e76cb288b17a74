"""Ways out for alerts that apprise does not have, and what it must not say of those that it has."""
