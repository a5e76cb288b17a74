"""How batches are drawn, disturbed and judged."""
