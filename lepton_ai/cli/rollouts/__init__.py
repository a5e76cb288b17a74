"""Candidates that are tried beside the champion, on the command line."""
