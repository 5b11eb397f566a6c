"""Functions as tasks, on a private cluster that all of these tests share."""
