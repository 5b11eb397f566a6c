"""The command ``ripieno completion``: prints what a shell needs to complete commands, flags and ids."""

import click
from click.shell_completion import ShellComplete, get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  ripieno completion bash > ~/.local/share/bash-completion/completions/ripieno
    zsh:   ripieno completion zsh > "${fpath[1]}/_ripieno"
    fish:  ripieno completion fish > ~/.config/fish/completions/ripieno.fish

    Sessions, tasks and results are completed from the cluster, if it answers within a second.
    """  # noqa: D301 - click wants the character itself
    kind = get_completion_class(shell)
    assert kind is not None
    # The method of the class itself: that of bash starts one, to ask for its version.
    click.echo(ShellComplete.source(kind(context.find_root().command, {}, "ripieno", "_RIPIENO_COMPLETE")))
