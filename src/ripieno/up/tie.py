"""Words that ``up`` and its processes have to agree on.

``up`` gives each process one end of a pair of sockets and names it in TIE_VARIABLE. The
process loads its modules and then waits for BEGIN (what it depends on still starts);
it answers READY when it serves. When either end closes, the other process is gone.
"""

#: Holds the number of an inherited descriptor. Workers get a pipe of their agent's under
#: the same name, and end when it ends.
TIE_VARIABLE = "RIPIENO_PARENT_PIPE"
BEGIN = b"begin\n"
READY = b"ready\n"

#: Who the agent is and whom it replaces, 32 hexadecimal digits each: when `up` starts one, the one
#: before it has ended for certain, and need not be waited for.
AGENT_VARIABLE = "RIPIENO_AGENT_ID"
PREDECESSOR_VARIABLE = "RIPIENO_PREDECESSOR"

#: The database's URL: it may hold a password, and command lines are for everyone to read.
DATABASE_VARIABLE = "RIPIENO_DATABASE"
