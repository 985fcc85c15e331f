"""The command line: flags to a config, a config to a run, every outcome to an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import json
import operator
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import tyro
from rich.console import Console

import rvsmjax

from ..records.environment import Clock, usable_cores
from ..records.folder import CONFIG, BadInput, DryRun
from ..records.program import PROGRAM
from .command import Command
from .registry import commands

BAD_INPUT = 2
INTERRUPTED = 130
INTRODUCTION = """Sparse learning by relaxed variable splitting: each study of the papers is a command.

Start with:
  PROGRAM sweep --quick      a small study, in seconds
  PROGRAM sweep --dry-run    what the full one would take
  PROGRAM sweep              the paper's tables beside ours
  PROGRAM COMMAND --help     flags and examples of a command

Each run leaves a folder under results/: report, data, figures, and config.json with all that is needed to repeat it.
--quick changes sizes only. After Ctrl-C the same command goes on where slabs or epochs were finished. --version tells
the version."""
HEARTBEAT = 30
"""Seconds without a sign of life after which a process of several counts as dead."""


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Runs a command and returns its exit code: 0, 2 for bad input, 130 after Ctrl-C.

    Args:
      arguments: those after the program's name; default: the process's.
      program: the name by which help and errors call it.
    """
    code = _outcome(list(sys.argv[1:] if arguments is None else arguments), program)
    if code and sys.modules.get("jax") and sys.modules["jax"].distributed.is_initialized():
        # An orderly exit would wait for the other processes, which may be no more.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _outcome(arguments: Sequence[str], program: str) -> int:
    if list(arguments) == ["--version"]:
        print(f"rvsmjax {version()}")
        return 0
    clock = Clock()
    as_json = "--json" in arguments

    def fail(message: str, code: int) -> int:
        print(f"{program}: {message}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": message, "exit_code": code}, ensure_ascii=False))
        return code

    try:
        config = parse(arguments, program)
        console = Console(quiet=config.quiet or config.json, width=None if sys.stdout.isatty() else 100)
        if hasattr(config, "precision"):
            with clock.phase("set-up"):
                prepare_jax(config.precision)
                if getattr(config, "coordinator", "") and not config.dry_run:
                    join(config.coordinator, config.processes, config.process)
        command = next(command for command in commands().values() if type(config) is command.config)
        try:
            out = command.load()(config, console, clock)
            shown = result_json(out) if as_json else ""
        except DryRun as asked:
            plan = command.workload(asked.config)
            shown = json.dumps(dataclasses.asdict(plan)) if as_json else "\n".join(plan.lines())
        if shown:
            print(shown)
    except BadInput as error:
        return fail(_named(str(error)), BAD_INPUT)
    except KeyboardInterrupt as stop:
        return fail(f"interrupted; {stop if stop.args else 'nothing was written'}", INTERRUPTED)
    return 0


def version() -> str:
    """Returns the version of the library."""
    return rvsmjax.__version__


def result_json(out: Path | None) -> str:
    """Returns what a record's ``config.json`` holds, with its folder, as one line of JSON; NaN and ∞ become null.

    Of a page alone it tells the file.
    """
    facts = {"page" if out and Path(out).is_file() else "record": str(out) if out else None}
    if out and (Path(out) / CONFIG).is_file():
        text = (Path(out) / CONFIG).read_text(encoding="utf-8")
        facts |= json.loads(text, parse_constant=lambda name: None)
    return json.dumps(facts, ensure_ascii=False)


def parse(arguments: Sequence[str], program: str = PROGRAM) -> Any:
    """Returns the config that the flags describe.

    Raises:
      BadInput: flags that make none.
      SystemExit: help was asked for.
    """
    kinds = []
    of_all = not set(arguments) & set(commands())
    for name, command in commands().items():
        kind = command.config
        default = kind.small() if "--quick" in arguments and hasattr(kind, "small") else kind()
        about = inspect.cleandoc(kind.__doc__ or "")
        about = about.split("\n\n")[0] if of_all else about + teach(command, program)
        kinds.append(Annotated[kind, tyro.conf.subcommand(name, default=default, description=about)])
    choice: Any = functools.reduce(operator.or_, kinds)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                choice,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
                description=INTRODUCTION.replace("PROGRAM", program),
                prog=program,
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise BadInput(one_line(complaint.getvalue())) from None


def teach(command: Command[Any], program: str) -> str:
    """Returns examples of a command, for its help."""
    return "\n\nExamples:\n" + "\n".join(f"  {program} {command.name} {line}".rstrip() for line in command.examples)


def prepare_jax(precision: str) -> None:
    """Sets what must be set before JAX is first used: 64-bit numbers if asked for, a CPU device per core, a cache.

    Compiled programs are kept in a cache folder of the platform, or in ``JAX_COMPILATION_CACHE_DIR``.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("rvsmjax"))

    if precision == "float64":
        jax.config.update("jax_enable_x64", True)
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not chosen and "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):  # JAX is in use already: leave it as it is
            jax.config.update("jax_num_cpu_devices", usable_cores())


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes this process one of several that run together.

    Raises:
      BadInput: they did not come together.
    """
    import jax

    found = coordinator == "auto"
    if not found and not 0 <= process < processes:
        raise BadInput(f"process must be in [0, {processes}), got {process}")
    with contextlib.suppress(AttributeError):  # of CPUs alone; an option that may go once it is the default
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            None if found else coordinator,
            None if found else processes,
            None if found else process,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"coordinator must be one that all processes reach, got {coordinator!r}: {error}") from None


def one_line(box: str) -> str:
    """Returns tyro's complaint without its frame, title and hints: what stands between the first two rules."""
    blocks: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        inside = line.strip().strip("│|").strip()
        if re.match(r"╭|[─-]{8}", inside):
            blocks.append([])
        else:
            blocks[-1].append(inside)
    message = " ".join(" ".join(next(filter(any, blocks[1:]), blocks[0])).split())
    return message.replace("Error parsing ", "").replace(": must", " must")


def _named(message: str) -> str:
    """Returns the message on one line, an argument's name at its start written as its flag."""
    message = " ".join(message.split())
    name, _, rest = message.partition(" ")
    flags = {field.name for command in commands().values() for field in dataclasses.fields(command.config)}
    return f"--{name.replace('_', '-')} {rest}" if name in flags else message
