"""Replies to clients that may be large: results, the reasons of failures, and lists of ids."""
