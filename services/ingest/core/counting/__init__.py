"""What is counted of the events of a pipeline, and how counts of many batches, instances and minutes add up."""
