"""Teddy: distils a large labelled image set into a few images per class, with a pool of weak teachers."""

__version__ = "0.1.0"
