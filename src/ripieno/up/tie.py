"""The protocol and the variables between ``up`` and its processes.

``up`` gives each process one end of a pair of sockets and names it in TIE_VARIABLE. The
process loads its modules and then waits for BEGIN (the services it depends on may still be starting);
it answers READY when it serves. When one end closes, the process there is gone.
"""

#: The descriptor of that end. A process of `up` ends when the other end closes (``ripieno.cli.process.parent``).
TIE_VARIABLE = "RIPIENO_PARENT_PIPE"
BEGIN = b"begin\n"
READY = b"ready\n"

#: Ids of an agent and of the one it replaces, 32 hexadecimal digits each: when `up` starts an agent, its
#: predecessor has ended for certain, so its tasks need not wait for the lease.
AGENT_VARIABLE = "RIPIENO_AGENT_ID"
PREDECESSOR_VARIABLE = "RIPIENO_PREDECESSOR"

#: Holds the database's URL, which may contain a password: any user can read command lines.
DATABASE_VARIABLE = "RIPIENO_DATABASE"
