"""``python -m rvsmjax_experiments``, the same as ``rvsmjax``."""

from rvsmjax_experiments import main

if __name__ == "__main__":
    main()
