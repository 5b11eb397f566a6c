"""``ripieno replay``: an attempt of the past, run again in this process, and compared with what is recorded.

Nothing here changes anything in a cluster: it reads payload, inputs and results, and what the handler makes stays here.
"""
