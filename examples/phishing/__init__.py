"""River's bundled Phishing stream, replayed as live events whose labels arrive later."""
