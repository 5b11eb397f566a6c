"""The agent's own HTTP/2 and gRPC client, and how long a silent peer is taken for alive."""
