"""Folders and files, on the rented machine and at home."""

from __future__ import annotations

import dataclasses
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NO_DEVICE = "the device must be a GPU or a TPU, got a CPU; use --rehearse for a small run on a CPU"


@dataclasses.dataclass(frozen=True)
class Paths:
    """Folders and files below ``root``, the checkout or the scratch folder of a rehearsal.

    Git ignores ``build``. On the same machine, the next call still has it.
    """

    root: Path = CHECKOUT

    def carried(self, call: int) -> Path:
        """Returns the folder of images that is sent with call 1 or 2."""
        return self.root / "build" / "carry" / f"call-{call}"

    @property
    def images(self) -> Path:
        """Unpacked images."""
        return self.root / "build" / "accelerator" / "images"

    @property
    def kept(self) -> Path:
        """Results of earlier calls on this machine."""
        return self.root / "build" / "accelerator" / "kept"

    @property
    def compiled(self) -> Path:
        """Compiled programs."""
        return self.root / "build" / "accelerator" / "compiled"

    @property
    def record(self) -> Path:
        """Committed results, one JSON line each."""
        return self.root / "benchmarks" / "results" / "accelerator.jsonl"

    @property
    def runs(self) -> Path:
        """Committed trainings, one file each."""
        return self.root / "experiments" / "published_runs"

    @property
    def page(self) -> Path:
        """Page with the tables."""
        return self.root / "docs" / "accelerators.md"
