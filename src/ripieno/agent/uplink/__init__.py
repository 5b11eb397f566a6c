"""The stream to the control plane, and the connection for other calls to it."""
