"""The newest accepted row of each entity, and how a request's row is filled up from it."""
