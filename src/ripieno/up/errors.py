"""What keeps a laptop cluster from running."""


class UpError(Exception):
    """The cluster cannot run; the text names the thing, the value and the way out."""


class DirectoryHeldError(UpError):
    """Another process uses the data directory."""


class PortTakenError(UpError):
    """Something listens there already, or we may not."""


class ServiceFailedError(UpError):
    """One of the cluster's processes ended before it served."""
