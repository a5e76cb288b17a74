"""What a Pipeline may say about learning: the `model` block, and what each family takes."""
