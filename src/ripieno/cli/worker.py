"""``ripieno worker``: one Python worker."""

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[MODULE:HANDLER]")
def command(arguments: tuple[str, ...]) -> None:
    """One Python worker, serving at the address in RIPIENO_WORKER_ADDRESS.

    MODULE:HANDLER names the function that runs a task; without it payloads are Python
    functions. An agent starts workers by itself: see `ripieno agent --worker`.
    """
    from ripieno.worker.__main__ import main

    raise SystemExit(main(list(arguments)))
