"""A version as one file that leaves the platform: how it is packed, what signs it, and how it is verified."""
