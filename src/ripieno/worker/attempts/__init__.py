"""One attempt: what its handler may do, and how that travels."""
