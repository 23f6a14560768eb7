"""Soft labels: which view of an image a student sees, and what the pool of teachers says about it."""
