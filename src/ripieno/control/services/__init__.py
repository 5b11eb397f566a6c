"""The services beside version 2: each method decodes a request, calls a part of the replica, and encodes the reply."""
