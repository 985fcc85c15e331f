"""Settings and fixtures that all tests share."""

import os

import hypothesis
import jax
import pytest

# What the tests compile is for them alone, and what others compiled is not for the tests.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
jax.config.update("jax_enable_compilation_cache", False)
# Before JAX starts: some tests spread work over several devices.
jax.config.update("jax_num_cpu_devices", 8)

collect_ignore = ["repository/typed_user.py"]  # a type checker reads it; a part of it is wrong on purpose

hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, print_blob=True, database=None, max_examples=60
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture
def x64():
    """Float64 for one test; no module sets the global flag."""
    with jax.enable_x64(True):
        yield
