"""Ripieno runs tasks on many workers and loses none. Import its subpackages by name; this module re-exports nothing."""

import os as _os

# gRPC reads this variable when it is first imported. Its fork handlers, on by default, do not work beside
# the thread with which grpc.aio waits for events: children of a program with an open connection
# crashed three times in ten (grpcio 1.8x). Without the handlers, a child that does not use gRPC is safe.
_os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
