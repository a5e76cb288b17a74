"""How a question to a model is put, and its answer read, whichever door it goes through."""
