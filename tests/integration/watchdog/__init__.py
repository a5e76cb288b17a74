"""The watchdog as a real process over the real broker and database."""
