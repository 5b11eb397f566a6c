"""The graph of tasks and results: creation, promotions, cuts, revivals and cancellation."""
