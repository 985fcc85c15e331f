"""make bench: the sweep against NumPy, the cost of rvsm in an update, training against PyTorch, in one process.

Sweep and NumPy run the same problems (same draws, float32) to the same tolerance, checked every 16 steps. After a
warm-up, each time is the shortest of several; compilation is measured separately. Writes results/*.json and the tables
between the markers in README.md.
"""

from __future__ import annotations

import json
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.reports.document import fill

HERE = pathlib.Path(__file__).parent


def least(run: Callable[[], Any], repeats: int) -> float:
    """Returns the shortest wall time of ``repeats`` runs, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def measure(penalty: str, d: list[int], k: list[int], seeds: int, repeats: int) -> dict[str, Any]:
    """Returns lanes per second of the sweep and of NumPy for one penalty."""
    import jax

    import rvsmjax as rv
    from benchmarks import numpy_rvsm
    from rvsmjax.sweep._program import plan

    grid = rv.Grid(penalty=penalty, d=d, k=k, seeds=seeds)
    first = rv.run_sweep(grid)
    ours = min(rv.run_sweep(grid).run_seconds for _ in range(repeats))
    alone = jax.devices()[:1]
    rv.run_sweep(grid, devices=alone)
    on_one = min(rv.run_sweep(grid, devices=alone).run_seconds for _ in range(repeats))

    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.arange(seeds))
    drawn = np.asarray(jax.vmap(lambda key: jax.random.normal(key, (2, plan.ROWS)))(keys))
    patches = np.repeat(k, seeds)
    peers = {"numpy": 0.0, "numpy, finished lanes dropped": 0.0}
    for index, width in enumerate(d):
        w_star, w = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in drawn[:, :, :width].swapaxes(0, 1))
        w_star, w = np.tile(w_star, (len(k), 1)), np.tile(w, (len(k), 1))
        for name in peers:
            drop = name != "numpy"
            limits, _ = numpy_rvsm.run(penalty, w, w_star, patches, drop=drop)
            peers[name] += least(lambda: numpy_rvsm.run(penalty, w, w_star, patches, drop=drop), max(1, repeats - 2))  # noqa: B023
            # The limits agree: equal distances to w*, up to the tolerance.
            distances = first.data["dist_w"][0, index, :, 0, 0, 0, 0].ravel()
            np.testing.assert_allclose(np.linalg.norm(limits - w_star, axis=1), distances, atol=2e-4)
    return {
        "penalty": penalty,
        "lanes": grid.size,
        "compile seconds": first.compile_seconds,
        "waste": first.steps_executed / first.steps_needed,
        "lanes/s": {
            "rvsmjax": grid.size / ours,
            "rvsmjax, one core": grid.size / on_one,
            **{name: grid.size / seconds for name, seconds in peers.items()},
        },
    }


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    peers = list(record["results"][0]["lanes/s"])
    rows = [
        f"{record['machine']}; Python {record['versions']['python']}, JAX {record['versions']['jax']}, "
        f"NumPy {record['versions']['numpy']}; {record['date']}.",
        f"d = {record['d']}, k = {record['k']}, {record['seeds']:,} seeds; lanes per second, and ours over the peer.",
        "",
        "| penalty | " + " | ".join(peers) + " | compile |",
        "|---|" + "---:|" * (len(peers) + 1),
    ]
    for result in record["results"]:
        rates = result["lanes/s"]
        cells = [
            f"{rate:,.0f}" + (f" ({rates['rvsmjax'] / rate:.1f} ×)" if "numpy" in name else "")
            for name, rate in rates.items()
        ]
        rows.append(f"| {result['penalty']} | " + " | ".join(cells) + f" | {result['compile seconds']:.1f} s |")
    return "\n".join(rows)


def processor() -> str:
    """Returns the processor's name as reported by the system."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(
    only: tuple[str, ...] = (
        "imports",
        "sweep",
        "rates",
        "lanes",
        "transforms",
        "convolution",
        "training",
        "methods",
        "cifar",
    ),
    nets: tuple[str, ...] = ("slim",),
    d: tuple[int, ...] = (10, 20, 30, 40, 50),
    k: tuple[int, ...] = (2, 5, 10, 20),
    seeds: int = 2000,
    repeats: int = 5,
    write: bool = True,
) -> None:
    """Measures the sweep against NumPy, the transformations against SGD, and training against PyTorch.

    Args:
      only: names of the measurements to run.
      nets: networks of ``cifar``: resnet18, vgg16, resnet20, slim; the first two are for accelerators.
      d: dimensions of the sweep.
      k: numbers of patches.
      seeds: seeds per cell.
      repeats: number of runs; the shortest time counts.
      write: whether to write the record and the table.
    """
    import jax

    from experiments.records.environment import keep_memory, usable_cores

    keep_memory()
    cores = usable_cores()
    if {"sweep", "rates", "lanes"} & set(only):
        jax.config.update("jax_num_cpu_devices", cores)

    # After the number of devices is set: lanes.py makes arrays when it is imported.
    from benchmarks import cifar, convolution, imports, lanes, methods, rates, training, transforms

    record: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{processor()}, {cores} cores",
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__},
    }
    if "imports" in only:
        _report("imports", record | {"results": imports.measure()}, imports.table, write)
    if "sweep" in only:
        results = []
        for penalty in ("l1", "l0", "tl1"):
            results.append(measure(penalty, list(d), list(k), seeds, repeats))
            print(json.dumps(results[-1], indent=1), flush=True)
        _report("sweep", record | {"d": list(d), "k": list(k), "seeds": seeds, "results": results}, table, write)
    if "rates" in only:
        scaled = {"results": rates.measure(repeats=repeats), "scaling": rates.scaling()}
        _report("rates", record | scaled, rates.table, write)
    if "lanes" in only:
        _report("lanes", record | {"results": lanes.measure()}, lanes.table, write)
    if "transforms" in only:
        _report("transforms", record | {"results": transforms.measure()}, transforms.table, write)
    if "convolution" in only:
        versions = {**record["versions"], "torch": training.torch_version()}
        results = convolution.measure()
        _report("convolution", record | {"versions": versions, "results": results}, convolution.table, write)
    if "training" in only:
        versions = {**record["versions"], "torch": training.torch_version()}
        _report("training", record | {"versions": versions, "results": training.measure()}, training.table, write)
    if "methods" in only:
        _report("methods", record | {"results": methods.measure()}, methods.table, write)
    if "cifar" in only:
        versions = {**record["versions"], "torch": training.torch_version()}
        short = jax.default_backend() != "cpu"
        batch, steps = (128, 50) if short else (128, 4)
        rates_by_net = cifar.measure(nets, batch, steps, short=short)
        facts = {"batch": batch, "dtype": "bfloat16" if short else "float32", "results": rates_by_net}
        _report("cifar" if not short else "cifar_gpu", record | {"versions": versions} | facts, cifar.table, write)


def _report(name: str, record: dict[str, Any], to_table: Callable[[dict[str, Any]], str], write: bool) -> None:
    print(text := to_table(record))
    if write:
        publish(name, record, text)


def publish(name: str, record: dict[str, Any], text: str) -> None:
    """Writes a record to results/ and its table between the markers in README.md."""
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    fill(HERE / "README.md", name, text)


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
