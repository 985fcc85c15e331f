"""The studies: what reproduces the papers' tables and figures with ``rvsmjax``."""
