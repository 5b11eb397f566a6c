"""The subcommands of ``ripieno``, one module each."""
