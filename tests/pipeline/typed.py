"""One command line in a process of its own: ``python -m teddy`` without the seconds that importing torch takes.

``conftest.py`` has this file run (``runpy.run_path``) in processes forked from a server that has imported everything and has
composed a configuration (``composed.py``). They differ from ``python -m teddy`` in nothing else: the same ``main()`` reads the
same arguments, in its own working directory, and may be killed. ``ARGV``, ``FOLDER``, ``ENVIRONMENT``, ``OUT``, ``ERR`` and
``SETTINGS`` are globals that it is run with.
"""

import importlib
import multiprocessing
import os
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests themselves run in the background
multiprocessing.set_start_method(None, force=True)  # the system's own again, not the server that this process came from
os.chdir(FOLDER)  # noqa: F821
sys.path.insert(0, FOLDER)  # noqa: F821 - as python -m does
os.environ.update(ENVIRONMENT)  # noqa: F821
for path, number in ((OUT, 1), (ERR, 2)):  # noqa: F821
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
for name, value in SETTINGS.items():  # noqa: F821
    module, _, attribute = name.rpartition(".")
    setattr(importlib.import_module(module), attribute, value)
sys.argv[:] = ["teddy", *ARGV]  # noqa: F821
sys.exit(importlib.import_module("teddy.cli").main())
