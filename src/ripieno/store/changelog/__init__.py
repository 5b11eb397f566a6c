"""The log of changes: cursors, batches of changes, snapshots to begin with, and trimming."""
