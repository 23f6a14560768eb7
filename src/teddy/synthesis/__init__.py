"""Synthesis: the interface of a method, and the engine that optimises pixels for those that need it."""
