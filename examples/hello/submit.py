"""Submit a few tasks and print their results.

In this directory, in one terminal::

    ripieno up --worker "ripieno worker hello:handle"

and in another one::

    python submit.py Ada Grace Katherine
"""

import sys

from ripieno.client import Client

names = sys.argv[1:] or ["Ada", "Grace", "Katherine"]

with Client() as client:
    session = client.session(max_retries=1, max_duration=60)
    tasks = session.submit_many(name.encode() for name in names)  # durable from here on
    for result in session.results(tasks, timeout=60):  # as they finish, not in their order
        print(result.data.decode() if result.error is None else f"failed: {result.error}")
