"""A model of a small clinic that goes on from what a large one has learnt."""
