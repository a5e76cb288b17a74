"""The watchdog's verbs: observe, watch, lead, act."""
