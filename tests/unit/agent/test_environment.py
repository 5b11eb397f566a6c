"""What workers get of their agent's environment."""

import pytest

from ripieno.agent.workers.environment import worker_environment

OURS = {
    "PATH": "/bin",
    "AWS_SECRET_ACCESS_KEY": "the user's, for the workers",
    "RIPIENO_ADDRESS": "127.0.0.1:5001",
    "RIPIENO_DATABASE": "postgresql://u:secret@h/d",
    "RIPIENO_WORKER_ADDRESS": "of another agent",
    "PGPASSWORD": "secret",
    "PGHOST": "h",
    "PGSSLKEY": "/key",
}


def test_secrets_of_the_agent_stay_with_it() -> None:
    passed = worker_environment(OURS, named=(), address="unix:/w", slot=3)
    assert passed == {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "the user's, for the workers",
        "RIPIENO_ADDRESS": "127.0.0.1:5001",
        "RIPIENO_WORKER_ADDRESS": "unix:/w",
        "RIPIENO_SPAWNED": "1",
        "RIPIENO_SLOT": "3",
    }


@pytest.mark.parametrize("name", ["RIPIENO_DATABASE", "PGPASSWORD"])
def test_what_is_named_is_passed_on(name: str) -> None:
    assert worker_environment(OURS, named=(name,), address="unix:/w", slot=0)[name] == OURS[name]
