"""What bounds every action, whatever asked for it."""
