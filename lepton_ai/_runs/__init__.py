"""Training runs as a client sees them: asked for, followed, cancelled."""
