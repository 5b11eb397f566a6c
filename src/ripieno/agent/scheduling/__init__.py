"""Scheduling: which attempt runs on which slot, how much work the agent asks for, and the outbox of its messages."""
