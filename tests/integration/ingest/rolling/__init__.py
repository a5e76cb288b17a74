"""The Faust stage over a real broker."""
