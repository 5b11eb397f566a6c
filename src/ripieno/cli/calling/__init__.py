"""Helpers of commands that call a cluster: the calls, and output to the terminal."""
