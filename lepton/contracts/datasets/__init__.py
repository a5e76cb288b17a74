"""What data sets are named by and what is kept of those erased from them."""
