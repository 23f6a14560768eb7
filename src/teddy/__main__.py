"""``python -m teddy``."""

import sys

from teddy.cli import main

if __name__ == "__main__":
    sys.exit(main())
