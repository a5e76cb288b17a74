"""Which books to show a reader: learnt from ratings, answered with a list."""
