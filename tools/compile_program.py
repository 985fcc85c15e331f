"""Compiles one program for an absent device and prints the result as one line of JSON.

``check_accelerators`` runs this in a separate process for each program, because a compiler may crash.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SEEDS = 10_000


def prepare() -> Path:
    """Sets the environment of JAX's compilers, before JAX is imported; returns the folder of their dumps."""
    from tools.sass import toolkit

    dumps = Path(tempfile.mkdtemp())
    os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    dump = f"--xla_dump_to={dumps} --xla_dump_emitter_re=ptx"
    os.environ["XLA_FLAGS"] = f"--xla_gpu_cuda_data_dir={toolkit()} {dump}"
    return dumps


def devices(platform: str) -> tuple[Any, ...]:
    """Returns a device description: an H100, or one chip of a v5e."""
    from jax.experimental import topologies

    if platform == "tpu":
        return tuple(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[:1])
    config = (HERE / "h100.txtpb").read_text()
    described = {"topology_name": "h100", "topology": "1x1x1", "target_config": config}
    return tuple(topologies.get_topology_desc(platform="cuda", **described).devices[:1])


def sweep(platform: str, engine: str, axes: dict[str, Any]) -> dict[str, Any]:
    """Compiles the program of a grid; if it holds a single GPU kernel, counts its instructions too."""
    import jax
    import numpy as np
    from jax.sharding import Mesh

    import rvsmjax as rv
    from rvsmjax.sweep import program
    from rvsmjax.sweep.plan import make_plan, precision

    places = devices(platform)
    grid = rv.Grid(seeds=SEEDS, **axes)
    plan = make_plan(grid, precision(None), places, False, engine)
    started = time.perf_counter(), spent()
    lowered = program.lower_plan(plan, jax.random.key_impl(jax.random.key(0)), Mesh(np.asarray(places), ("lanes",)))
    traced = time.perf_counter(), spent()
    compiled = lowered.compile(program.OPTIONS.get(places[0].platform))
    return times(started, traced) | {"temporaries": compiled.memory_analysis().temp_size_in_bytes}


def kernels(activation: str, normalize: bool) -> dict[str, Any]:
    """Generates the CUDA kernel of every penalty for some d, and assembles it with ptxas."""
    from tools.kernels import kernel_text
    from tools.sass import count

    started = time.perf_counter(), spent()
    counts = {}
    for penalty in ("l1", "l0", "tl1"):
        for d in (7, 10, 50, 64, 130, 200, 1000):
            text, components = kernel_text(penalty, activation, d, normalize)
            counts[f"{penalty}, d = {d}"] = count(text, components)
    return times(started, started) | {"kernels": counts}


def pallas(penalty: str, d: int, dumps: Path) -> dict[str, Any]:
    """Compiles a grid of one kind with the Pallas kernel and counts the instructions of its PTX."""
    from rvsmjax.sweep import kernel
    from tools.sass import count

    result = sweep("cuda", "pallas", {"penalty": penalty, "d": d})
    ptx = next(text for path in dumps.glob("*.ptx") if ".entry kernel(" in (text := path.read_text()))
    threads = int((re.search(r"\.(?:req|max)ntid (\d+)", ptx) or [0, 128])[1])
    return result | {"kernels": {f"{penalty}, d = {d}": count(ptx, d * kernel.lanes_of_a_block(d) / threads)}}


def training(platform: str, net: str, method: str) -> dict[str, Any]:
    """Compiles an epoch on CIFAR-10."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from experiments.studies.cifar.lowered import training_program

    started = time.perf_counter(), spent()
    function, arguments = training_program(net, method)
    sharding = NamedSharding(Mesh(np.asarray(devices(platform)), ("all",)), PartitionSpec())
    arguments = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), arguments)
    lowered = function.trace(*arguments).lower()
    traced = time.perf_counter(), spent()
    compiled = lowered.compile()
    text = compiled.as_text()
    return times(started, traced) | {
        "temporaries": compiled.memory_analysis().temp_size_in_bytes,
        "convolutions": len(re.findall(r"custom-call\(.*__cudnn\$conv|= \S+ convolution\(", text)),
        "transposes": len(re.findall(r"= \S+ transpose\(", text)),
    }


def spent() -> float:
    """Returns the CPU seconds of this process and its children."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def times(started: tuple[float, float], traced: tuple[float, float]) -> dict[str, float]:
    """Returns the wall and CPU seconds of tracing and compiling."""
    now = time.perf_counter(), spent()
    return {
        "trace_cpu_seconds": round(traced[1] - started[1], 2),
        "compile_cpu_seconds": round(now[1] - traced[1], 2),
        "compile_seconds": round(now[0] - traced[0], 2),
    }


def main() -> None:
    """Runs the case given as JSON on the command line."""
    case = json.loads(sys.argv[1])
    dumps = prepare()
    kind = case.pop("kind")
    if kind == "pallas":
        case["dumps"] = dumps
    result = {"sweep": sweep, "kernels": kernels, "pallas": pallas, "training": training}[kind](**case)
    import jax

    print(json.dumps({"jax": jax.__version__, **result}), flush=True)
    # Skip the exit handlers of the two compilers' libraries, which have crashed before.
    os._exit(0)


if __name__ == "__main__":
    main()
