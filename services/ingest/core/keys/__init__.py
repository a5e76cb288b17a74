"""What an event is known by, a whole batch at a time: texts, their hashes, and where a hash was last."""
