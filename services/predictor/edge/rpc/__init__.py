"""The gRPC door: its socket, who may call, what every call has in common, and the services behind it."""
