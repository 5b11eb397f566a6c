"""The server that an agent speaks to, and its two lanes."""
