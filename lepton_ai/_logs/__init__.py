"""Lines that processes logged: read from this machine's files or asked of a log store, filtered alike."""
