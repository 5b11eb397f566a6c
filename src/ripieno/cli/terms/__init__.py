"""Values, limits and flags of the command line."""
