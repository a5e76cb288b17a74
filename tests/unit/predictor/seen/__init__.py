"""What is seen of requests from outside: metrics, spans, the log of predictions."""
