"""Errors that keep a cluster on one machine from running."""


class UpError(Exception):
    """The cluster cannot run; the text names the thing, the value and what to do."""


class DirectoryHeldError(UpError):
    """Another ``up``, or a process of an earlier one that does not end, uses the data directory."""


class PortTakenError(UpError):
    """No server can listen at the address: its port is taken, not permitted, or the address is not this machine's."""


class ServiceFailedError(UpError):
    """One of the cluster's processes could not be started, or ended before it served."""
