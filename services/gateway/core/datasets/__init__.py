"""What is decided and computed about rows of a data set: their form, their parts, their statistics."""
