"""The predictor beside other inference servers: the same files, requests and load generator, one server at a time."""
