"""What each field did to a row's score: measured by torch, and written into the exported graph."""
