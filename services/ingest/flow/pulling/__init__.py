"""Pulling events from elsewhere: what a source gives, one source pulled, and which ones this process pulls."""
