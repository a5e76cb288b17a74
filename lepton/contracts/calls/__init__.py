"""What gRPC calls carry beside their messages."""
