"""Queue on the rented machine: one process per job, started only if it fits, killed at its time limit."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..records.folder import BadInput, alone
from . import records, tables
from .estimates import SLACK, Estimates, fitting
from .jobs import START, Job, Sizes, make_jobs
from .paths import CHECKOUT, NO_DEVICE, Paths
from .probe import nvidia_smi
from .records import Writer
from .transfer import mosaics, pack

LOG, LOG_BYTES = "log.txt", 8 * 2**20
TORCH_SHARE = "0.6"
"""Fraction of the device memory for JAX in jobs that also run PyTorch."""


class Queue:
    """Queue of one call.

    Args:
      paths: folders and files.
      sizes: sizes of the measurements.
      call: 1 stops before the trainings; 2 runs all remaining rows.
      seconds: time budget.
      out: folder that is transferred back.
      environment: environment of the jobs.
      again: jobs whose committed lines are ignored.
    """

    def __init__(
        self,
        paths: Paths,
        sizes: Sizes,
        call: int,
        seconds: float,
        out: Path,
        environment: Mapping[str, str],
        again: Sequence[str] = (),
    ) -> None:
        self.paths, self.sizes, self.call, self.out = paths, sizes, call, out
        self.ends = time.monotonic() + seconds
        self.commit = pack.packed_commit(paths)
        self.environment = dict(environment) | {
            "JAX_COMPILATION_CACHE_DIR": str(paths.compiled),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        }
        self.jobs, self.again = make_jobs(sizes), again

    def run(self) -> None:
        """Runs the queue.

        Raises:
          BadInput: no accelerator, or another queue uses the same folder.
        """
        self.card = self._find_card()
        self.out.mkdir(parents=True, exist_ok=True)
        self.paths.compiled.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                locked = stack.enter_context(alone(self.out))
            except OSError:
                locked = True  # a file system without locks
            if not locked:
                raise BadInput(f"--out must not be in use by another queue, got {self.out}")
            for path in records.files(self.paths.kept):
                shutil.copyfile(path, self.out / f"{records.EARLIER}{path.name}")
            with self._process(["unpack"]) as unpacking:
                for job in self.jobs:
                    if job.trains:
                        if self.call == 1:
                            break
                        unpacking.wait()
                        if lacking := mosaics.missing(self.paths.images):
                            self._print(f"{job.name}: cannot start, {', '.join(lacking)} did not come with this call")
                            self._print("  or an earlier one on this machine; make call 1 again, then call 2")
                            continue
                    self._run_job(job)
                if unpacking.wait():
                    self._print(f"images: not unpacked, see {LOG}")
        self._print(f"call {self.call}: finished, {self.ends - time.monotonic():.0f} s left\n")
        self._print(tables.page(records.known(self.paths, self.out, self.again)))

    def _run_job(self, job: Job) -> None:
        ahead = True
        while True:
            lines = records.known(self.paths, self.out, self.again)
            rows = records.left(job, lines, self.card, self.commit, self.paths.runs)
            if not rows:
                return
            free, estimates = self.ends - time.monotonic(), Estimates(self.jobs, lines, self.card)
            chosen = fitting(job, rows, estimates, free)
            if not chosen:
                least = START + min(map(estimates.row, rows)) if job.trains else estimates.job(rows)
                self._print(f"{job.name}: not started, {least:.0f} s × {SLACK} exceed the {free:.0f} s left")
                return
            limit = free if job.trains else SLACK * estimates.job(chosen)
            self._print(f"{job.name}: {len(chosen)} of {len(rows)} rows, {estimates.job(chosen):.0f} s of {free:.0f} s")
            before = len(records.read(self.out))
            code = self._run_process(job, time.monotonic() + limit, ahead)
            new = records.read(self.out)[before:]
            self.card = new[-1]["device_kind"] if new else self.card
            if code is None:
                self._print(f"{job.name}: killed at its time limit of {limit:.0f} s; the rest is for another call")
                return
            if code == 0:
                self._print(f"{job.name}: done")
                return
            reason = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            self._print(f"{job.name}: {reason}, see {LOG}")
            crashed = records.under_way(new)
            if ahead and (crashed is None or job.trains):
                ahead = False
                continue  # retry one by one: a row that was compiled ahead may have crashed
            if crashed is None:
                return
            ahead = False
            # Record the failure, so another process continues after this row.
            begun = next(line for line in reversed(new) if line["id"] == crashed)
            Writer((self.out, self.paths.kept), {}).write(begun | {"kind": "failed", "error": reason})

    def _run_process(self, job: Job, until: float, ahead: bool) -> int | None:
        """Returns the exit code of a job's process, or None if it was killed at its time limit."""
        shared = {"XLA_PYTHON_CLIENT_MEM_FRACTION": TORCH_SHARE} if job.shares else {}
        options = ["job", job.name, "--out", str(self.out), "--until", repr(until)]
        options += [] if ahead else ["--one-by-one"]
        with self._process(options, shared) as process:
            try:
                return process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                return None

    @contextlib.contextmanager
    def _process(
        self, options: Sequence[str], more: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Yields a process of this package, killed at the end of the body; it also ends with this process."""
        command = [sys.executable, "-m", "experiments.accelerator", *self._common(), *options]
        log = self.out / LOG
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=self.environment | dict(more or {}),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                process_group=0,
            )
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with its children
                process.wait()
                if process.stdin:
                    process.stdin.close()
        if log.stat().st_size > LOG_BYTES:
            log.write_bytes(log.read_bytes()[-LOG_BYTES:])

    def _common(self) -> list[str]:
        again = [word for job in self.again for word in ("--again", job)]
        return ["--root", str(self.paths.root), *(["--rehearse"] if self.sizes.rehearsal else []), *again]

    def _find_card(self) -> str:
        """Returns the kind of device without allocating it."""
        if self.sizes.rehearsal:
            return "cpu"
        if card := nvidia_smi("name"):
            return card
        code = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind, sep='\\n')"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=self.environment)
        backend, _, kind = result.stdout.strip().partition("\n")
        if result.returncode or backend == "cpu":
            raise BadInput(NO_DEVICE)
        return kind

    def _print(self, text: str) -> None:
        print(text, flush=True)
