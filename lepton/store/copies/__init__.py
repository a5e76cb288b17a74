"""Whole collections as they lie in the database, for backups."""
