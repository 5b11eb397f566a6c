"""The two SDKs agree with the protocol, and the lanes of the agent with each other.

Golden scenarios of the protocol through the product's own client and worker. What a worker does stands
in its task: a *script*, a list of steps (``scripts`` makes them, ``handlers`` runs them). Most
tests run once for each *lane*: batches or a call for each attempt, with a plain and with a coroutine
handler. They expect the same statuses, details and bytes of each.
"""
