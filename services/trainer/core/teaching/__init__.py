"""How batches are drawn and disturbed, and how what a network answers to them is judged, while it learns."""
