"""Queries: results, statuses, lists, reasons of failures, and checks of the invariants."""
