"""Vehicles counted by a detector in a road in Oregon: how many will pass within the last quarter of the next hour."""
