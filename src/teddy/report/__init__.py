"""What a person reads at the end: the ledger, the table with its baselines, the pictures, one page."""
