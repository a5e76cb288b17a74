"""Commands of servers that run away from the platform."""
