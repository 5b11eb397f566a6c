"""Attempts of tasks: claims, confirmations of cancellations, and commits."""
