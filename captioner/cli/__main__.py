"""`python -m captioner.cli` is the command `captioner`."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
