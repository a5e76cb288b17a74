"""Scikit-learn's bundled handwritten digits, sent as live images that a convolutional network learns to read."""
