"""The parts that all calls share: limits, admission, turns, the mapping of errors, streams and batches."""
