"""The private descriptor pool of this project's messages.

Protobuf keeps one process-wide pool of message descriptors and refuses a second
definition of a name. A user who has another package with the same protocol in the
same process (the original's own stubs, say) would get an import error from the one
imported second. The generated modules therefore register in a pool of
their own: same names and numbers on the wire, nothing shared in the process.
"""

from google.protobuf import descriptor_pool, duration_pb2, timestamp_pb2

_POOL = descriptor_pool.DescriptorPool()
for _standard in (duration_pb2, timestamp_pb2):
    _POOL.AddSerializedFile(_standard.DESCRIPTOR.serialized_pb)


def Default() -> descriptor_pool.DescriptorPool:  # noqa: N802 - the name generated code calls
    """Return the private pool (stands in for ``descriptor_pool.Default``)."""
    return _POOL
