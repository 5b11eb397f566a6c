"""The parts of `ripieno top`: one look at a cluster, and the screen that shows it."""
