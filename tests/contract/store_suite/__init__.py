"""One suite over both databases: what the stores promise holds in memory and in the real process alike."""
