"""Who waits for what, and who is told when something changed, here or at another replica."""
