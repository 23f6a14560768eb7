"""A synthetic set as one folder for others: images, labels or the teachers that make them, and every fact about both."""
