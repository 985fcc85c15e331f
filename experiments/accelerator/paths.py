"""Folders and files, on the rented machine and at home."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NO_DEVICE = "the device must be a GPU or a TPU, got a CPU; use --rehearse for a small run on a CPU"


class Paths:
    """Folders and files below ``root``, the checkout or the scratch folder of a rehearsal.

    Git ignores ``build``. On the same machine, the next call still has it.

    Attributes:
      images: unpacked images.
      kept: results of earlier calls on this machine.
      compiled: compiled programs.
      record: committed results, one JSON line each.
      runs: committed trainings, one file each.
      page: page with the tables.
    """

    def __init__(self, root: Path = CHECKOUT) -> None:
        self.root = root
        self.images, self.kept, self.compiled = (
            root / "build" / "accelerator" / name for name in ("images", "kept", "compiled")
        )
        self.record = root / "benchmarks" / "results" / "accelerator.jsonl"
        self.runs = root / "experiments" / "published_runs"
        self.page = root / "docs" / "accelerators.md"

    def carried(self, call: int) -> Path:
        """Returns the folder of images that is sent with call 1 or 2."""
        return self.root / "build" / "carry" / f"call-{call}"
