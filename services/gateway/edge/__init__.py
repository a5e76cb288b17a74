"""The wires of the gateway: REST in, gRPC to predictors out."""
