"""Requests to a power company by a stated grammar: a transformer tells what each wants from its words."""
