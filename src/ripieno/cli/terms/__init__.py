"""Values, limits and flags as they are given on the command line."""
