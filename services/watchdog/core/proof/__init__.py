"""What shows that an action helped."""
