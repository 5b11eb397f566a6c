"""The agents' side of the control plane: their streams, claims for them, their reports, and their leases."""
