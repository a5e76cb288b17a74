"""The report of a pipeline's data quality: one HTML file that needs nothing else."""
