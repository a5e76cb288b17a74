"""Events that come as Arrow streams, many in a record, read column by column into the same rows as single ones."""
