"""Commands that the gateway itself obeys."""
