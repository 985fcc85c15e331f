"""Memory that a step frees stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from experiments.records.environment import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**24)
start = faults()
for _ in range(8):
    np.ones(2**24)
print(faults() - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_memory_is_kept():
    counts = [
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("default", "keep")
    ]
    assert counts[1] < counts[0] / 10
