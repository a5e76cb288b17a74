"""What is kept about files of rows on their way in."""
