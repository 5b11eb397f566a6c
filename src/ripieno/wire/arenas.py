"""How long a protobuf message may be filled in again and again before it is built anew.

A message puts whatever its fields are set to into an arena of its own, and the arena keeps all of
it until the whole message is dropped: setting a field again, clearing it or merging into it gives
nothing back (protocolbuffers/protobuf#10294). A message that lives for long and is filled in for
each task therefore keeps every value that it ever had.

The rule of this project: a message is built, sent and dropped. The two exceptions
(``agent.attempts.opening.Opener``, ``worker.conversation.replies.OneResult``) save two thirds of the time of building
one, and drop theirs after ``ARENA_BYTES``.
"""

#: What a message that is filled in again may have taken in, in bytes, before it is built anew. Large
#: enough that building does not count beside the tasks that share it, small beside a process.
ARENA_BYTES = 256 * 1024
