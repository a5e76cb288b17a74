"""What processes log: how often each pattern of warnings and errors is usual, and when it is not."""
