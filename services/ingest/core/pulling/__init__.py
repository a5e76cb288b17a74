"""Decisions about events that are pulled: what a row becomes, and where its source goes on; by kind of source."""
