"""The worker's side: runs function tasks, and collects the sub-tasks that they make."""
