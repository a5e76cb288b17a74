"""Requests to a shop's assistant: a model tells from the words what each wants."""
