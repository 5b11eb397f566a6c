"""Work beside the calls: cuts and promotions in task graphs, cancellations, counts and garbage."""
