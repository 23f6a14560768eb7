"""Views of distilled images, and the soft labels that a pool of teachers gives them."""
