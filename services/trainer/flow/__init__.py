"""What the trainer does, by verb: take requests in, count rows, plan, train, publish; free of any transport."""
