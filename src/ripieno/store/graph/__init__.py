"""The graph of tasks and results: creation, promotions, cuts and cancellation."""
