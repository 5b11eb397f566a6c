"""Simulated agents: real ``Agent`` streams, workers that take no time.

``python -m benchmarks.bare.agents AGENTS ADDRESS...`` spreads so many agents over the replicas,
prints ``ready`` once all were welcomed, and goes on until SIGTERM.
"""

import asyncio
import os
import signal
import sys
import time

import grpc.aio
import uvloop

from benchmarks.tasks import RESULT
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc

SLOTS = 2
#: What an agent with two slots and workers as fast as ours holds or is owed.
CREDIT = 512

#: Streams do not share a connection, as they do not between machines.
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


async def live(number: int, address: str, welcomed: asyncio.Semaphore) -> None:
    """One agent, until cancelled; releases the semaphore once it was welcomed."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        stream = agent_pb2_grpc.AgentStub(channel).Connect()
        hello = agent_pb2.Hello(agent_id=os.urandom(16), name=f"simulated-{number}", slots=SLOTS, version="1")
        await stream.write(agent_pb2.AgentMessage(hello=hello, credit=CREDIT))
        outcomes_no = 0
        async for message in stream:
            if message.HasField("welcome"):
                welcomed.release()
            if message.plain.task_nos or message.assignments:
                outcomes_no += 1
                await stream.write(_outcomes(message, outcomes_no))


def _outcomes(message: agent_pb2.ControlMessage, outcomes_no: int) -> agent_pb2.AgentMessage:
    """All assigned tasks are done already, as columns like a real agent's; credit for as many more."""
    plain = message.plain
    done = agent_pb2.Completions(
        task_nos=plain.task_nos,
        session_nos=plain.session_nos,
        claims=plain.claims,
        result_counts=plain.output_counts,
        keys=plain.expected_output_keys,
    )
    for assignment in message.assignments:  # those with dependencies, or a large payload
        done.task_nos.append(assignment.ticket.task_no)
        done.session_nos.append(assignment.ticket.session_no)
        done.claims.append(assignment.ticket.claim)
        done.result_counts.append(len(assignment.expected_output_keys))
        done.keys.extend(assignment.expected_output_keys)
    count = len(done.task_nos)
    done.started_at_us.extend([time.time_ns() // 1_000] * count)
    done.workers.extend(["simulated"] * count)
    done.data.extend([RESULT] * len(done.keys))
    return agent_pb2.AgentMessage(outcomes_no=outcomes_no, credit=count, completions=done)


async def main(agents: int, addresses: list[str]) -> None:
    """Run them until SIGTERM."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    welcomed = asyncio.Semaphore(0)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(agents):
                group.create_task(live(number, addresses[number % len(addresses)], welcomed))
            for _ in range(agents):
                await welcomed.acquire()
            print("ready", flush=True)
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2:]))
