"""The stream to the control plane, and what the agent asks of it."""
