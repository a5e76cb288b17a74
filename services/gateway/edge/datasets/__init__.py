"""REST routes of data sets: one file of those that read, one of those that ask for a change, one of what they say."""
