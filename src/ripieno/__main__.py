"""Entry point of ``python -m ripieno``, which is the command ``ripieno``."""

from ripieno.cli import main

if __name__ == "__main__":
    main()
