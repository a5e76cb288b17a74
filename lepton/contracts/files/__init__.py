"""Files of rows: where records end, which events rows are, what proves that a file is the same one."""
