"""``python -m lossylens``: the command line, for where its script is not on PATH."""

import sys

from lossylens.cli import main

if __name__ == "__main__":
    sys.exit(main())
