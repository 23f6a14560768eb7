"""Where real images come from: one file per kind of source, all with the same two methods (see
``base.Source``).
"""
