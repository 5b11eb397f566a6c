"""Ripieno: runs tasks on many workers and loses none. Its parts are imported by their own names."""

import os as _os

# gRPC reads this when it is first imported. Its handlers of forks, on by default, do not work beside
# the thread with which grpc.aio waits for events: children of a program with an open connection
# crashed three times in ten (grpcio 1.8x). Without them a child that leaves gRPC alone is well.
_os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
