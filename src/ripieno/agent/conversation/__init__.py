"""The agent's half of `Worker.Process`, the calls' grammar as a machine: no socket, no clock, no event loop."""
