"""Programs made of generated stubs alone, without an SDK: a worker, a client, simulated agents."""
