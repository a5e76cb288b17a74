"""Commands of training runs."""
