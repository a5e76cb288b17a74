"""How good a candidate is, where it is not, and whether it is better than the champion or only luckier."""
