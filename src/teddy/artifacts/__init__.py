"""Finished work on disk: fingerprints that name it, atomic writes, manifests with checksums."""
