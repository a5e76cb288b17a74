"""What people say of answers, where nobody knows the truth."""
