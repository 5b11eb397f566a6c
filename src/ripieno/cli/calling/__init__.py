"""Commands that call a cluster, and what they show on the terminal."""
