"""Sources of real images, one file per kind; all offer the methods of ``base.Source``."""
