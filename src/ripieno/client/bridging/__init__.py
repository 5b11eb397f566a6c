"""The blocking client: the asynchronous one, run on a loop in a thread of its own."""
