"""Looking for a family and parameters: what is asked for, what may be tried, one trial, the whole, and its account."""
