"""Resources, queues, lag and failures: what each process and machine says it has used up or could not do."""
