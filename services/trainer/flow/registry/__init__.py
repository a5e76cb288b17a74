"""Changes of the registry that no training makes: by command, by import, and what nothing refers to any more."""
