"""The process of a command that serves: its parent, what it inherits, its end."""
