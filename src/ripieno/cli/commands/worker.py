"""The command ``ripieno worker``: runs one Python worker."""

import click

from ripieno.cli.process.inherited import prepare_process


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument(
    "arguments",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[--address ADDRESS] [--single] [--concurrency N] [MODULE:HANDLER]",
)
def command(arguments: tuple[str, ...]) -> None:
    """One Python worker, serving at ADDRESS or at the one in RIPIENO_WORKER_ADDRESS.

    MODULE:HANDLER names the function that runs a task; without it payloads are Python
    functions. An agent starts workers by itself: see `ripieno agent --worker`. With
    --single it serves Worker alone, as a worker of another make does. With
    --concurrency it runs N tasks at a time, if the function is async.
    """
    prepare_process()
    from ripieno.worker.__main__ import main

    raise SystemExit(main(list(arguments)))
