"""Which attempt runs on which slot, how much work the agent asks for, and what waits to be told."""
