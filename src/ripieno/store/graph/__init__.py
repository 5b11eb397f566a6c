"""The graph of tasks and results: created, promoted, cut and cancelled."""
