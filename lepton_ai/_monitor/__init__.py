"""What a deployment is doing now: its health, and how busy its model is."""
