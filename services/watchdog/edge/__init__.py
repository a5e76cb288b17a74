"""The watchdog's wires: feeds in; commands, journal, audit and words for people out."""
