"""The predictor's doors beside an echo in Go, under a load generator in Go: neither costs what a Python one does."""
