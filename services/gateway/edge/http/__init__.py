"""What every HTTP route shares: request context, callers, the form of answers."""
