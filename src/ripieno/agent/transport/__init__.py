"""The agent's own HTTP/2 and gRPC client, and the rules for when a silent peer counts as dead."""
