"""What this process and the machine under it have used up."""
