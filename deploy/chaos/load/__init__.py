"""What flows while faults are struck, and who calls."""
