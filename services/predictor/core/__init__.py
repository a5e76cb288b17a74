"""The predictor's decisions and arithmetic: no I/O, no clock of its own, no environment."""
