"""The process of a command that serves: its parent, its inherited state, how it ends."""
