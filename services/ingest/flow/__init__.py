"""What ingest does, as verbs: follow pipelines and models, accept events and labels, quarantine sources, keep rows."""
