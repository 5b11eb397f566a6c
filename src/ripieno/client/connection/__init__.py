"""The connection to the replicas: which one is asked, how long, and what happens after an outage or a fork."""
