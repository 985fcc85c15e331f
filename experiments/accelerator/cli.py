"""Command ``python3 -m experiments.accelerator``: runs, plans or rehearses the queue, packs and collects files."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..records.folder import BadInput, require_one_of
from .jobs import FULL, ROWS, TINY, Sizes
from .paths import Paths

if TYPE_CHECKING:
    from .estimates import Rental

PROGRAM = "python3 -m experiments.accelerator"


class Parser(argparse.ArgumentParser):
    """Parser that raises ``BadInput`` on errors."""

    def error(self, message: str) -> NoReturn:
        """Raises ``BadInput``."""
        raise BadInput(message)


def make_parser() -> Parser:
    """Returns the parser of the command line."""
    parser = Parser(prog=PROGRAM, description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--plan", action="store_true", help="print the rows that the next rental would run, with minutes"
    )
    parser.add_argument("--rehearse", action="store_true", help="run both calls at small size on a CPU")
    parser.add_argument("--call", type=int, default=2, help="1: measure the sweep; 2: all remaining rows (default)")
    parser.add_argument(
        "--seconds", type=float, default=None, help="time budget of this call, or of the rental with --plan"
    )
    parser.add_argument("--out", type=Path, default=None, help="folder that is transferred back (default: $OUT)")
    parser.add_argument("--again", action="append", default=[], help="job to measure again; may be repeated")
    parser.add_argument(
        "--root", type=Path, default=None, help="scratch folder of a rehearsal (default: a temporary one)"
    )
    actions = parser.add_subparsers(dest="action", parser_class=Parser, metavar="ACTION")
    packing = actions.add_parser("pack", help="prepare the files that each call carries, and print the calls")
    packing.add_argument("--images", type=Path, required=True, help="folder of six mosaics and labels.u8")
    collecting = actions.add_parser("collect", help="check returned results, write records and tables")
    collecting.add_argument("folder", type=Path, help="folder of results.jsonl")
    actions.add_parser("unpack", help="unpack the images of the calls")
    job = actions.add_parser("job", help="run one job; started by the queue")
    job.add_argument("name", help="name of the job")
    job.add_argument("--out", type=Path, required=True, help="folder of the results")
    job.add_argument("--one-by-one", action="store_true", help="compile each row only when it runs")
    job.add_argument("--until", type=float, required=True, help="deadline by time.monotonic()")
    return parser


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Runs the command and returns its exit code: 0, or 2 for bad input.

    Args:
      arguments: command-line arguments; default: those of the process.
      environment: environment of the jobs.
    """
    try:
        options = make_parser().parse_args(arguments)
        check(options)
        run(options, environment)
    except BadInput as error:
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def check(options: argparse.Namespace) -> None:
    """Raises ``BadInput`` for invalid numbers or names."""
    if options.call not in (1, 2):
        raise BadInput(f"--call must be 1 or 2, got {options.call}")
    if options.seconds is not None and not 0 < options.seconds < 1e6:
        raise BadInput(f"--seconds must be in (0, 1e6), got {options.seconds:g}")
    for job in options.again:
        require_one_of("--again", job, [name for name in ROWS if name != "train"])
    if options.action == "job":
        require_one_of("name", options.name, ROWS)
    if options.root is not None and not options.rehearse:
        raise BadInput(f"--root must be given only with --rehearse, got {options.root}")


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Runs the action."""
    paths = Paths(options.root.absolute()) if options.root else Paths()
    sizes = TINY if options.rehearse else FULL
    if options.rehearse and options.action in ("unpack", "job"):
        from .rehearsal import use_small_images

        use_small_images(paths)
    if options.action == "pack":
        from .transfer import pack

        carried = pack.pack(paths, options.images)
        show_calls(paths, sizes, carried)
    elif options.action == "collect":
        collect(paths, sizes, options.folder)
    elif options.action == "unpack":
        end_with_parent()
        unpack(paths)
    elif options.action == "job":
        end_with_parent()
        from . import worker
        from .transfer import pack

        commit = pack.packed_commit(paths)
        ahead = not options.one_by_one
        worker.run_job(paths, sizes, options.name, options.out, options.until, commit, options.again, ahead)
    elif options.plan:
        show_plan(paths, sizes, options.seconds)
    elif options.rehearse:
        rehearse(options, environment)
    else:
        from .estimates import CALL, RESERVE
        from .runner import Queue

        out = options.out or Path(environment.get("OUT") or paths.root / "build" / "accelerator" / "out")
        seconds = CALL - RESERVE if options.seconds is None else options.seconds
        Queue(paths, sizes, options.call, seconds, out.absolute(), environment, options.again).run()


def collect(paths: Paths, sizes: Sizes, folder: Path) -> None:
    """Collects the results of a folder and prints what is new and what is left.

    Raises:
      BadInput: some lines are invalid; the others are collected.
    """
    from . import tables
    from .transfer import collect

    new, errors = collect.collect(paths, sizes, folder)
    tables.write_page(paths)
    kinds = [line["kind"] for line in new]
    print(", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "nothing new")
    for line in new:
        if line["kind"] != "result":
            print(f"  {line['id']}: {line['kind']}, {line['error']}")
    show_plan(paths, sizes, None)
    if errors:
        raise BadInput(f"lines must be valid, got {len(errors)} invalid: {'; '.join(errors[:5])}")


def show_plan(paths: Paths, sizes: Sizes, rental: float | None) -> None:
    """Prints the rows that the next rental would run in two calls, and the remaining ones."""
    from . import estimates

    planned, allowed, rest = plan(paths, sizes, rental)
    for call, seconds in allowed.items():
        entries = [entry for entry in planned if entry.call == call]
        total = sum(entry.seconds for entry in entries)
        print(f"call {call}: {total / 60:.1f} minutes of work; time limit {seconds / 60:.1f}")
        for entry in entries:
            print(f"  {entry.job.name}: {len(entry.rows)} rows, {entry.seconds / 60:.1f} minutes")
            for row in entry.rows if entry.job.trains else ():
                print(f"    {row.name}")
    print(
        f"the machine: {estimates.MACHINE / 60:.1f} minutes to start, "
        f"{estimates.TRANSFER / 60:.1f} per call to send and fetch; {(rental or estimates.RENTAL) / 60:g} in total"
    )
    print("left for later: " + (", ".join(f"{job.name} {len(rows)} rows" for job, rows in rest if rows) or "nothing"))


def plan(paths: Paths, sizes: Sizes, rental: float | None) -> Rental:
    """Returns ``estimates.plan_rental`` for the committed lines and the device of the last one."""
    from ..records import environment
    from . import estimates, jobs, records

    lines = records.read(paths.record)
    card = lines[-1]["device_kind"] if lines else ""
    queue = jobs.make_jobs(sizes)
    commit = environment.commit(paths.root)
    left = [(job, records.left(job, lines, card, commit, paths.runs)) for job in queue]
    return estimates.plan_rental(left, estimates.Estimates(queue, lines, card), rental or estimates.RENTAL)


def show_calls(paths: Paths, sizes: Sizes, carried: dict[int, int]) -> None:
    """Prints the commands of the two calls."""
    from . import estimates
    from .transfer import pack

    _, allowed, _ = plan(paths, sizes, None)
    for call, size in carried.items():
        print(f"call {call}, {size / 2**20:.1f} MiB of {pack.LIMIT / 2**20:g}:")
        print(json.dumps(pack.command(call, allowed[call]), indent=1))
    print("Make call 2 right after call 1. A new machine has no images from call 1: make call 1 again first.")
    print(f"--seconds of call 2: rest of the rental minus {estimates.TRANSFER + estimates.RESERVE:.0f}, at most 585.")


def unpack(paths: Paths) -> None:
    """Unpacks the images of both calls, as far as available."""
    from .transfer import mosaics

    for call in (1, 2):
        names = mosaics.unpack(paths.carried(call), paths.images)
        print(f"call {call}: {', '.join(names) or 'no images'}")


def rehearse(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Rehearses in the given scratch folder, or in a temporary one."""
    from .rehearsal import rehearse

    seconds = options.seconds or 600.0
    folder = contextlib.nullcontext(options.root) if options.root else tempfile.TemporaryDirectory()
    with folder as root:
        rehearse(Paths(Path(root).absolute()), seconds, environment)


def end_with_parent() -> None:
    """Ends this process when the parent closes the pipe to its standard input."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with its children
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
