"""What an incident tells when it is read back: how long it took, and its report."""
