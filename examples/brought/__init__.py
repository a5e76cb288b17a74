"""Example: a network trained elsewhere, brought into the Phishing pipeline."""
