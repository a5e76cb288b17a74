"""The parts of `bench_ingest`, each a process of its own so that one measurement never warms another."""
