"""Commands on versions as files."""
