"""Requests that are plain enough to be run without being read one by one."""
