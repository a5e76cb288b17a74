"""Candidates that are tried: the tests behind the verdict, the verdict, and the registry that follows it."""
