"""Changes of the registry that no training makes: by command, and what nothing refers to any more."""
