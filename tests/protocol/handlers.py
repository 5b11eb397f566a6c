"""A handler for the product's own worker, which the suite drives as a bare agent."""

from typing import Any


def joined(task: Any) -> bytes:
    """Payload and dependencies, in the order in which they came; or what the payload asks for."""
    payload = bytes(task.payload)
    if payload == b"raise":
        raise ValueError("the handler raises")
    if payload == b"send":
        for key in task.expected_output_keys:
            task.send_result(key, key.encode())
        return None  # type: ignore[return-value]
    return b"|".join([payload, *(key.encode() + b"=" + task.data[key] for key in task.data)])
