"""How good answers are while nobody says what was true: estimates from what the answers themselves carry."""
