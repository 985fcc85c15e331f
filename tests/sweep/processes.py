"""Worker of a multi-process sweep: ``python -m tests.sweep.processes PORT PROCESSES INDEX FILE``."""

import sys

import jax
import numpy as np

import rvsmjax as rv

GRID = {"penalty": ["l1", "tl1"], "d": 5, "k": [1, 3], "seeds": 700}


def main(port, processes, index, file):
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, index)
    assert (jax.device_count(), jax.local_device_count()) == (2 * processes, 2)
    result = rv.run_sweep(rv.Grid(**GRID), jax.random.key(1))
    np.savez(file, **result.data)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
