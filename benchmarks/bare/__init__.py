"""Programs made of generated stubs alone, without an SDK: a worker, a client, simulated agents."""

import os

# As our own processes do (``ripieno.cli.process.serving``); read when gRPC is first used.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
