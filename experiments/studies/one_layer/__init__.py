"""What the studies of grids of one-layer problems share: data in slabs, statistics, tables, figures."""
