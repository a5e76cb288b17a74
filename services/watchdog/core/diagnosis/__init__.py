"""Which causes a symptom may have, how likely each is, and what hangs on what."""
