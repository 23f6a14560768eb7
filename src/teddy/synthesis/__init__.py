"""Synthesis: blocks of pixels are optimised against weak teachers (Eq. 7)."""
