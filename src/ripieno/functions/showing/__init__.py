"""Showing people how far futures have come: bars in terminals and notebooks, and objects as HTML."""
