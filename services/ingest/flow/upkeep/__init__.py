"""What is done to rows after they were stored: snapshots, erasure, retention, and the queue of such jobs."""
