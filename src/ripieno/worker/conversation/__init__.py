"""The worker's half of ``Worker.Process``, and the messages that a worker sends."""
