"""A network of somebody's own, which a Pipeline names by its import path."""
