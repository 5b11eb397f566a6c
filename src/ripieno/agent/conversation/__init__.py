"""The agent's half of `Worker.Process`: the call's grammar as a state machine, without socket, clock or event loop."""
