"""The limit on reusing one protobuf message for several tasks before a new one is built.

A message copies the values of its fields into an arena of its own, and the arena keeps all of
them until the whole message is dropped: setting a field again, clearing it or merging into it frees
nothing (protocolbuffers/protobuf#10294). A message that lives for long and is filled in for
each task therefore keeps every value that it ever had.

The rule of this project: a message is built, sent and dropped. The two exceptions
(``agent.attempts.opening.Opener``, ``worker.conversation.replies.OneResult``) save two thirds of the time of building
one, and drop theirs after ``ARENA_BYTES``.
"""

#: Bytes that a reused message may have taken in before it is dropped and built anew. Large enough that the
#: cost of building does not count beside the tasks that share it, small beside a process's memory.
ARENA_BYTES = 256 * 1024
