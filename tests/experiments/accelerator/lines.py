"""Synthetic result lines, and constants shared by the tests of the accelerator."""

from pathlib import Path

ROOT = Path(__file__).parents[3]
CARD, OTHER = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
ABSENT = ("tyro", "zarr", "pooch", "platformdirs")
"""Packages that a rented machine lacks."""
RATE = {"penalty": "l1", "d": 50, "updates_per_second": [1e12, 2e12, 3e12]}


def line(kind="result", id="rates/l1 d=50/cuda", card=CARD, **fields):
    """Returns a line of the results, with ``fields`` replaced or added."""
    job, part, row = id.split("/", 2)
    default = {"kind": kind, "id": id, "job": job, "part": part, "row": row, "device_kind": card, "jax": "0.11.2"}
    default |= {"date": "2026-11-28T12:00:00Z", "commit": None}
    if kind == "result":
        default |= {"seconds": 2.0, "result": RATE | {"engine": row}}
    elif kind == "failed":
        default |= {"error": "it broke"}
    return default | fields
