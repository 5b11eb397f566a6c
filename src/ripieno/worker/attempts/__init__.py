"""Attempts: what a handler may do with its task, and how its results and questions reach the agent."""
