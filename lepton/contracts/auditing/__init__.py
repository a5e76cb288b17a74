"""The audit log's hash chains: how records follow each other, and how that is checked."""
