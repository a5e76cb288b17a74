"""Tests of the edge server: one exported version, served by a process of its own."""
