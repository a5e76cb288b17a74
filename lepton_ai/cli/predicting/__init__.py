"""Commands that ask models, and say what became true."""
