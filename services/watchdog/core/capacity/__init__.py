"""How many processes of a service there may be, and when more or fewer of them are wanted."""
