"""Bytes from outside meet every decoder: `make fuzz` searches for those that break one, `make test` replays the found.

A target takes any bytes and returns; it fails when a decoder raises what is no outcome, or loses an event.
"""
