"""Data sets over row segments: their upkeep, snapshots of them, who was erased from them, and the jobs that do it."""
