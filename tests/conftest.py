"""Settings and fixtures that all tests share."""

import gc
import os
import threading
from pathlib import Path

import hypothesis
import jax
import pytest
from jax._src import compiler
from jax._src.interpreters import mlir
from jax.experimental.compilation_cache import compilation_cache

from rvsmjax.sweep._program import program

# Before JAX starts: some tests use several devices.
jax.config.update("jax_num_cpu_devices", 8)
# Workers, subprocesses and the next run share what one process has compiled.
COMPILED = Path(__file__).parents[1] / "build" / "compiled-for-tests"
CACHE = {
    "jax_compilation_cache_dir": str(COMPILED),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in CACHE.items():
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)
# Workers fill the cores: a compilation that splits its code among threads takes longer.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_parallel_codegen_split_count=1"

gc.set_threshold(20_000, 20, 50)  # far fewer passes over the many objects of traces
make_context, contexts = mlir.make_ir_context, threading.local()
CONTEXT_USES = 500


def reused_context():
    """Returns a context that earlier programs of this thread have used: to load all dialects takes 15 ms."""
    if getattr(contexts, "left", 0) == 0:
        contexts.context, contexts.left = make_context(), CONTEXT_USES
    contexts.left -= 1
    return contexts.context


mlir.make_ir_context = reused_context

collect_ignore = ["repository/typed_user.py"]  # a type checker reads it; a part of it is wrong on purpose

hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, print_blob=True, database=None, max_examples=60
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture
def no_compilation_cache():
    """Compiles everything anew."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


compile_options = compiler.get_compile_options
cheap = False


def cheap_options(*args, env_options_overrides=None, **others):
    options = {"xla_cpu_use_fusion_emitters": False} | (env_options_overrides or {})
    return compile_options(*args, env_options_overrides=options, **others)


def compile_cheaply(wanted):
    """Sets how programs are compiled from now on; the persistent cache keeps the two kinds apart, the others do not."""
    global cheap
    if cheap != wanted:
        cheap = wanted
        jax.config.update("jax_disable_most_optimizations", cheap)
        if jax.__version_info__ < (0, 11):  # later, XLA has only these emitters
            compiler.get_compile_options = cheap_options if cheap else compile_options
        jax.clear_caches()
        program.compile_plan.cache_clear()


compile_cheaply(True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compiles without most of XLA's optimizations, but for tests of bits, rounding or speed, marked ``optimized``."""
    compile_cheaply(item.get_closest_marker("optimized") is None)


@pytest.fixture
def x64():
    """Float64 for one test; no module sets the global flag."""
    with jax.enable_x64(True):
        yield
