"""What to show the customers of a grocery: learnt from what was bought, answered with a list."""
