"""The command ``ripieno partition``: lists partitions."""

import click

from ripieno.cli.calling.listing import Asked, list_flags, show_list
from ripieno.cli.calling.places import PARTITIONS
from ripieno.domain.catalogue import Listed


@click.group("partition")
def command() -> None:
    """The partitions that agents serve and that tasks ask for."""


@command.command("list")
@list_flags(Listed.PARTITIONS, "name,agents,slots,busy,claimable")
def list_partitions(asked: Asked) -> None:
    """Partitions with the agents that are connected and serve them. The default partition has the empty name."""
    show_list(asked, PARTITIONS, {})
