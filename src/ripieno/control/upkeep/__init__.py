"""Work beside the calls: cuts, promotions and revivals in task graphs, cancellations, counts and garbage."""
