"""Real datasets and distilled ones: where images come from, their geometry, and the DataModule that serves them."""
