"""What people are told of incidents, to whom, and when."""
