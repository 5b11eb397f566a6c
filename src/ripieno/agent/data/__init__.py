"""Data on its way to and from workers: inputs, caches, the spool, uploads, and the agent's directory on disk."""
