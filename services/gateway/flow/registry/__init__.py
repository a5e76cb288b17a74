"""What the registry keeps beside a version's file, to be read by people."""
