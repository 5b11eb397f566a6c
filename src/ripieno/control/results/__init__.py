"""Results, failures and lists on their way to clients."""
