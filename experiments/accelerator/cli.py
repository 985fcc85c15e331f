"""The command ``python3 -m experiments.accelerator``: runs the queue, plans or rehearses it, packs and collects."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..records.folder import BadInput, require_one_of
from .jobs import FULL, ROWS, TINY, Sizes
from .places import Places

if TYPE_CHECKING:
    from .estimates import Rental

PROGRAM = "python3 -m experiments.accelerator"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Raises ``BadInput``."""
        raise BadInput(message)


def make_parser() -> Parser:
    """Returns the parser."""
    parser = Parser(prog=PROGRAM, description=__doc__, allow_abbrev=False)
    parser.add_argument("--plan", action="store_true", help="print what the next rental would do, with minutes")
    parser.add_argument("--rehearse", action="store_true", help="run both calls on a CPU, small")
    parser.add_argument("--call", type=int, default=2, help="1: measure the sweep; 2: do all that is left (default)")
    parser.add_argument("--seconds", type=float, default=None, help="that this call, or with --plan the rental, has")
    parser.add_argument("--out", type=Path, default=None, help="folder that goes home (default: $OUT)")
    parser.add_argument("--again", action="append", default=[], help="measure this job again; may be repeated")
    parser.add_argument(
        "--root", type=Path, default=None, help="scratch folder of a rehearsal (default: a temporary one)"
    )
    actions = parser.add_subparsers(dest="action", parser_class=Parser, metavar="ACTION")
    packing = actions.add_parser("pack", help="lay out what each call carries, and print the calls")
    packing.add_argument("--images", type=Path, required=True, help="folder of the six mosaics and labels.u8")
    collecting = actions.add_parser("collect", help="check what came back, write records and tables")
    collecting.add_argument("folder", type=Path, help="folder of results.jsonl")
    actions.add_parser("unpack", help="unpack the images that have come")
    job = actions.add_parser("job", help="run one job; the queue starts these")
    job.add_argument("name", help="of the job")
    job.add_argument("--out", type=Path, required=True, help="folder of the results")
    job.add_argument("--one-by-one", action="store_true", help="compile the programs of a row with the row")
    job.add_argument("--until", type=float, required=True, help="end on the machine's steady clock")
    return parser


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Runs the command and returns its exit code: 0, or 2 for bad input.

    Args:
      arguments: of the command; default: this process's own.
      environment: of the jobs.
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
    """Raises ``BadInput`` for numbers out of range and names that do not exist."""
    if options.call not in (1, 2):
        raise BadInput(f"--call must be 1 or 2, got {options.call}")
    if options.seconds is not None and not 0 < options.seconds < 1e6:
        raise BadInput(f"--seconds must be in (0, 1e6), got {options.seconds:g}")
    for job in options.again:
        require_one_of("--again", job, [name for name in ROWS if name != "train"])
    if options.action == "job":
        require_one_of("name", options.name, ROWS)
    if options.root is not None and not options.rehearse:
        raise BadInput(f"--root must be given with --rehearse alone, got {options.root}")


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Does what was asked for."""
    places = Places(options.root.absolute()) if options.root else Places()
    sizes = TINY if options.rehearse else FULL
    if options.rehearse and options.action in ("unpack", "job"):
        from .rehearsal import use_small_images

        use_small_images(places)
    if options.action == "pack":
        from .transfer import pack

        carried = pack.pack(places, options.images)
        show_calls(places, sizes, carried)
    elif options.action == "collect":
        collect(places, sizes, options.folder)
    elif options.action == "unpack":
        unpack(places)
    elif options.action == "job":
        from . import worker
        from .transfer import pack

        commit = pack.packed_commit(places)
        ahead = not options.one_by_one
        worker.run_job(places, sizes, options.name, options.out, options.until, commit, options.again, ahead)
    elif options.plan:
        show_plan(places, sizes, options.seconds)
    elif options.rehearse:
        rehearse(options, environment)
    else:
        from .estimates import CALL, RESERVE
        from .runner import Queue

        out = options.out or Path(environment.get("OUT") or places.root / "build" / "accelerator" / "out")
        seconds = CALL - RESERVE if options.seconds is None else options.seconds
        Queue(places, sizes, options.call, seconds, out.absolute(), environment, options.again).run()


def collect(places: Places, sizes: Sizes, folder: Path) -> None:
    """Collects a folder and says what came, what is wrong and what is left.

    Raises:
      BadInput: a line is wrong; the others are collected.
    """
    from . import tables
    from .transfer import collect

    new, wrong = collect.collect(places, sizes, folder)
    tables.write_page(places)
    kinds = [line["kind"] for line in new]
    print(", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "nothing new")
    for line in new:
        if line["kind"] != "result":
            print(f"  {line['id']}: {line['kind']}, {line['error']}")
    show_plan(places, sizes, None)
    if wrong:
        raise BadInput(f"lines must be whole and true, got {len(wrong)} that are not: {'; '.join(wrong[:5])}")


def show_plan(places: Places, sizes: Sizes, rental: float | None) -> None:
    """Prints what the next rental would do in two calls, and what is left after it."""
    from . import estimates

    planned, allowed, rest = plan(places, sizes, rental)
    for call, seconds in allowed.items():
        own = [entry for entry in planned if entry.call == call]
        total = sum(entry.seconds for entry in own)
        print(f"call {call}: {total / 60:.1f} minutes of work; ended after {seconds / 60:.1f}")
        for entry in own:
            print(f"  {entry.job.name}: {len(entry.rows)} rows, {entry.seconds / 60:.1f} minutes")
            for row in entry.rows if entry.job.trains else ():
                print(f"    {row.name}")
    print(
        f"the machine: {estimates.MACHINE / 60:.1f} minutes to start, "
        f"{estimates.TRANSFER / 60:.1f} a call to send and fetch; {(rental or estimates.RENTAL) / 60:g} in all"
    )
    known = {job.name: len(rows) for job, rows in rest if rows}
    print("left for later: " + (", ".join(f"{name} {count} rows" for name, count in known.items()) or "nothing"))


def plan(places: Places, sizes: Sizes, rental: float | None) -> Rental:
    """Returns what ``estimates.plan_rental`` does, by the committed lines; devices are those of the last of them."""
    from ..records import environment as surroundings
    from . import estimates, jobs, records

    lines = records.read(places.record)
    card = lines[-1]["device_kind"] if lines else ""
    queue = jobs.make_jobs(sizes)
    commit = surroundings.commit(places.root)
    left = [(job, records.left(job, lines, card, commit, places.runs)) for job in queue]
    return estimates.plan_rental(left, estimates.Estimates(queue, lines, card), rental or estimates.RENTAL)


def show_calls(places: Places, sizes: Sizes, carried: dict[int, int]) -> None:
    """Prints the two calls."""
    from . import estimates
    from .transfer import pack

    _, allowed, _ = plan(places, sizes, None)
    for call, size in carried.items():
        print(f"call {call}, {size / 2**20:.1f} MiB of {pack.LIMIT / 2**20:g}:")
        print(json.dumps(pack.command(call, allowed[call]), indent=1))
    print("Make call 2 at once. A machine that was given back has lost the images of call 1: make call 1 again first.")
    print(f"Its --seconds: what is left of the rental less {estimates.TRANSFER + estimates.RESERVE:.0f}, at most 585.")


def unpack(places: Places) -> None:
    """Unpacks the images of the calls that have come."""
    from . import worker
    from .transfer import mosaics

    worker.end_with_parent()
    for call in (1, 2):
        names = mosaics.unpack(places.carried(call), places.images)
        print(f"call {call}: {', '.join(names) or 'no images'}")


def rehearse(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Rehearses in the scratch folder given, or in a temporary one."""
    from .rehearsal import rehearse

    seconds = options.seconds or 600.0
    if options.root is not None:
        rehearse(Places(options.root.absolute()), seconds, environment)
        return
    with tempfile.TemporaryDirectory() as scratch:
        rehearse(Places(Path(scratch)), seconds, environment)
