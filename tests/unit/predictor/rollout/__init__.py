"""A candidate beside the champion, seen from the doors and from the log."""
