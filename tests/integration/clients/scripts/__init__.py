"""Programs that tests run in the clients' environment, never imported by ours."""
