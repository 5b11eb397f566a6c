"""The command ``ripieno replay``: an attempt of the past, run again in this process."""

import click

from ripieno.cli.calling.addresses import address_flags
from ripieno.cli.calling.completing import task_ids
from ripieno.cli.calling.terminal import name


@click.command("replay")
@click.argument("task_id", metavar="TASK", type=name, shell_complete=task_ids)
@click.option("--attempt", type=click.IntRange(min=0), metavar="N",
              help="Number of the attempt, from 0.  [default: the latest]")  # fmt: skip
@click.option("--debug", is_flag=True, help="Open the debugger (pdb) where the handler raised.")
@click.option("--handler", metavar="MODULE:FUNCTION",
              help="The handler of the task, as `ripieno worker` is given it.  [default: that of function tasks]")  # fmt: skip
@address_flags
@click.pass_context
def command(
    context: click.Context, task_id: str, attempt: int | None, debug: bool, handler: str | None, address: str
) -> None:
    """Run an attempt of the past again, in this process, and compare what comes of it with what is recorded.

    Its payload, data and options are fetched; what the handler prints is printed, and sub-tasks that it would create
    are shown. Nothing in the cluster changes. What the task does elsewhere (files, services) it does again, and a
    function task runs what its payload says: replay tasks of people you trust.

    The exit code is 0 if it ends as is recorded, 1 if it does not.
    """
    from ripieno.cli.replaying.replays import Wanted, replay

    context.exit(replay(Wanted(address, task_id, attempt, handler, debug)))
