"""The smallest whole program: a function, and a list of what to call it with.

python hello.py Ada Grace Katherine
"""

import sys

import ripieno


def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}!"


if __name__ == "__main__":
    names = sys.argv[1:] or ["Ada", "Grace", "Katherine"]
    with ripieno.connect() as cluster:
        for future in cluster.map(greet, names):
            print(future.result())
