"""Files of rows: sent whole, sent as live events, and described by a Pipeline nobody had written."""
