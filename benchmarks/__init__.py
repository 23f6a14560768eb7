"""Times what researchers wait for, beside the least that it could take: `python -m benchmarks`."""
