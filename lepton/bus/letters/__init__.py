"""Dead letters as they are read back: found by what is known of them, sent back, or laid aside for good."""
