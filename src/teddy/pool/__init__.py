"""The model pool: weak teachers that all come from one base model (Sec. 3.3)."""
