"""The queue on the rented machine: one process a job, begun only if it can end, ended at its box."""

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
from .estimates import SLACK, Estimates, beginning
from .jobs import START, Job, Sizes, make_jobs
from .places import CHECKOUT, NO_DEVICE, Places
from .records import Writer
from .transfer import mosaics, pack

LOG, LOG_BYTES = "log.txt", 8 * 2**20
TORCH_SHARE = "0.6"
"""Share of the device's memory that JAX takes where PyTorch needs some too."""


class Queue:
    """One call's work.

    Args:
      places: where things lie.
      sizes: of the queue.
      call: 1 ends before the trainings; 2 does what is left.
      seconds: that it may take.
      out: folder that goes home.
      environment: of the processes of jobs.
      again: jobs of which what is committed does not count.
    """

    def __init__(
        self,
        places: Places,
        sizes: Sizes,
        call: int,
        seconds: float,
        out: Path,
        environment: Mapping[str, str],
        again: Sequence[str] = (),
    ) -> None:
        self.places, self.sizes, self.call, self.out = places, sizes, call, out
        self.ends = time.monotonic() + seconds
        self.commit = pack.packed_commit(places)
        self.environment = dict(environment) | {
            "JAX_COMPILATION_CACHE_DIR": str(places.compiled),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        }
        self.jobs, self.again = make_jobs(sizes), again

    def run(self) -> None:
        """Works through the queue.

        Raises:
          BadInput: there is no accelerator, or another queue fills the same folder.
        """
        self.card = self._find_card()
        self.out.mkdir(parents=True, exist_ok=True)
        self.places.compiled.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                held = stack.enter_context(alone(self.out))
            except OSError:
                held = True  # a file system without locks
            if not held:
                raise BadInput(f"--out must be a folder that no other queue fills, got {self.out}")
            for path in records.files(self.places.kept):
                shutil.copyfile(path, self.out / f"{records.EARLIER}{path.name}")
            with self._unpacking() as unpacking:
                for job in self.jobs:
                    if job.trains:
                        if self.call == 1:
                            break
                        unpacking.wait()
                        if lacking := mosaics.missing(self.places.images):
                            self._say(f"{job.name}: cannot begin, {', '.join(lacking)} did not come with this call")
                            self._say("  or an earlier one on this machine; make call 1 again, then call 2 at once")
                            continue
                    self._work_through(job)
                if unpacking.wait():
                    self._say(f"images: not unpacked, see {LOG}")
        self._say(f"call {self.call}: over, {self.ends - time.monotonic():.0f} s left\n")
        self._say(tables.page(records.known(self.places, self.out, self.again)))

    def _work_through(self, job: Job) -> None:
        ahead = True
        while True:
            lines = records.known(self.places, self.out, self.again)
            rows = records.left(job, lines, self.card, self.commit, self.places.runs)
            if not rows:
                return
            free, estimates = self.ends - time.monotonic(), Estimates(self.jobs, lines, self.card)
            chosen = beginning(job, rows, estimates, free)
            if not chosen:
                least = START + min(map(estimates.row, rows)) if job.trains else estimates.job(rows)
                self._say(f"{job.name}: not begun, {least:.0f} s needed × {SLACK} are more than {free:.0f} s")
                return
            box = free if job.trains else SLACK * estimates.job(chosen)
            self._say(f"{job.name}: {len(chosen)} of {len(rows)} rows, {estimates.job(chosen):.0f} s of {free:.0f} s")
            before = len(records.read(self.out))
            code = self._run(job, time.monotonic() + box, ahead)
            found = records.read(self.out)[before:]
            self.card = found[-1]["device_kind"] if found else self.card
            if code is None:
                self._say(f"{job.name}: ended at its box of {box:.0f} s; the rest is for another call")
                return
            if code == 0:
                self._say(f"{job.name}: done")
                return
            ended = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            self._say(f"{job.name}: {ended}, see {LOG}")
            broken = records.under_way(found)
            if ahead and (broken is None or job.trains):
                ahead = False
                continue  # one by one: it may have been a row that was compiled ahead
            if broken is None:
                return
            ahead = False
            # Another process goes on behind the row that ended this one.
            begun = next(line for line in reversed(found) if line["id"] == broken)
            Writer((self.out, self.places.kept), {}).write(begun | {"kind": "failed", "error": ended})

    def _run(self, job: Job, until: float, ahead: bool) -> int | None:
        """Returns the exit code of a job's process, or None where it was ended at its box."""
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
        """Yields a process of this package that ends with this one, and at the latest when the body does."""
        command = [sys.executable, "-m", "experiments.accelerator", *self._common(), *options]
        log = self.out / LOG
        with log.open("ab") as said:
            process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=self.environment | dict(more or {}),
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                process_group=0,
            )
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # and what it has started
                process.wait()
                if process.stdin:
                    process.stdin.close()
        if log.stat().st_size > LOG_BYTES:
            log.write_bytes(log.read_bytes()[-LOG_BYTES:])

    def _unpacking(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return self._process(["unpack"])

    def _common(self) -> list[str]:
        again = [word for job in self.again for word in ("--again", job)]
        return ["--root", str(self.places.root), *(["--rehearse"] if self.sizes.rehearsal else []), *again]

    def _find_card(self) -> str:
        """Returns the kind of device, without taking it."""
        if self.sizes.rehearsal:
            return "cpu"
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
            return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
        ask = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind, sep='\\n')"
        answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, env=self.environment)
        backend, _, kind = answer.stdout.strip().partition("\n")
        if answer.returncode or backend == "cpu":
            raise BadInput(NO_DEVICE)
        return kind

    def _say(self, text: str) -> None:
        print(text, flush=True)
