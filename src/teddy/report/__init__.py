"""The report: a pure function of run folders that writes tables, figures, image grids and one page."""
