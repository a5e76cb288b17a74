"""A candidate beside the champion: whom it answers, what both did, and whether they agree."""
