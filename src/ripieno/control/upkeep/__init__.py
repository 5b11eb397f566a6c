"""Work beside the calls: cuts, promotions and revivals in task graphs, cancellations, timers, counts and garbage."""
