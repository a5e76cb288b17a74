"""The stream learner over the log, through a whole stack."""
