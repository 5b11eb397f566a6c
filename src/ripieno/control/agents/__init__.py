"""The agents: their streams, what is claimed for them, what they report, and whether they are alive."""
