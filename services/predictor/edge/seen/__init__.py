"""How the work of requests is seen from outside: in Triton's metrics, and as spans of batches and their steps."""
