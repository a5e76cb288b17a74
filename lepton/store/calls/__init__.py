"""How this process uses its database, and what all processes call."""
