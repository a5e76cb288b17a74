"""One process that answers with one exported version: no broker, no database, no registry."""
