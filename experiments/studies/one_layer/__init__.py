"""What the studies of one-layer problems share: lanes in slabs, statistics, tables, figures, hard thresholding."""
