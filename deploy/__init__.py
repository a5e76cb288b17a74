"""How Lepton is deployed: on one machine without containers, with Compose, and the actuator that heals it."""
