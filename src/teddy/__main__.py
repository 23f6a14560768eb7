"""``python -m teddy``."""

import atexit
import os
import sys

from teddy.cli import main

_codes: list[int] = []


def run() -> int:
    """Runs the command line as a process of its own and returns the exit code.

    When all is done and written, Python would take the objects of torch apart one by one for more than a second; the process is
    ended before that. What libraries have to do at the end they have done by then: this is registered first, so it runs last.
    """
    atexit.register(_leave)
    _codes.append(main())
    return _codes[0]


def _leave() -> None:
    if not _codes or "torch" not in sys.modules:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the reader has gone; Python itself says how that ends
        return
    os._exit(_codes[0])


if __name__ == "__main__":
    sys.exit(run())
