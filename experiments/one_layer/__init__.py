"""Code shared by the studies of one-layer problems: slabs, statistics, tables, figures, hard thresholding."""
