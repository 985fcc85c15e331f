"""Main function of the command line: parses the flags, runs the command, returns the exit code."""

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
  PROGRAM sweep --dry-run    cost of the full study
  PROGRAM sweep              the paper's tables next to ours
  PROGRAM COMMAND --help     flags and examples of a command

Each run writes a folder under results/: report, data, figures, and config.json with everything needed to repeat it.
--quick changes sizes only. After Ctrl-C, run the same command to resume from the last finished slab or epoch.
--version prints the version."""
HEARTBEAT = 30
"""Seconds without a heartbeat after which one of several processes counts as dead."""


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Runs a command and returns its exit code: 0, 2 for bad input, 130 after Ctrl-C.

    Args:
      arguments: command-line arguments; default: those of the process.
      program: program name in help and errors.
    """
    code = _outcome(list(sys.argv[1:] if arguments is None else arguments), program)
    if code and sys.modules.get("jax") and sys.modules["jax"].distributed.is_initialized():
        # A normal exit would wait for the other processes, which may be dead.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _outcome(arguments: Sequence[str], program: str) -> int:
    if list(arguments) == ["--version"]:
        print(f"rvsmjax {rvsmjax.__version__}")
        return 0
    clock = Clock()
    as_json = "--json" in arguments

    def fail(message: str, code: int) -> int:
        print(f"{program}: {message}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": message, "exit_code": code}, ensure_ascii=False))
        return code

    config: Any = None
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
        return fail(_with_flag(str(error), config), BAD_INPUT)
    except KeyboardInterrupt as stop:
        return fail(f"interrupted; {stop if stop.args else 'nothing was written'}", INTERRUPTED)
    return 0


def result_json(out: Path | None) -> str:
    """Returns ``config.json`` of a record with its folder, or the path of a page, as one line of JSON.

    NaN and infinities become null.
    """
    facts = {"page" if out and Path(out).is_file() else "record": str(out) if out else None}
    if out and (Path(out) / CONFIG).is_file():
        text = (Path(out) / CONFIG).read_text(encoding="utf-8")
        facts |= json.loads(text, parse_constant=lambda name: None)
    return json.dumps(facts, ensure_ascii=False)


def parse(arguments: Sequence[str], program: str = PROGRAM) -> Any:
    """Returns the config given by the arguments.

    Raises:
      BadInput: invalid arguments.
      SystemExit: ``--help`` was printed.
    """
    kinds = []
    names_command = bool(set(arguments) & set(commands()))
    for name, command in commands().items():
        kind = command.config
        default = kind.small() if "--quick" in arguments and hasattr(kind, "small") else kind()
        about = inspect.cleandoc(kind.__doc__ or "")
        about = about + _examples(command, program) if names_command else about.split("\n\n")[0]
        kinds.append(Annotated[kind, tyro.conf.subcommand(name, default=default, description=about)])
    choice: Any = functools.reduce(operator.or_, kinds)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
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
        raise BadInput(_one_line(errors.getvalue())) from None


def _examples(command: Command[Any], program: str) -> str:
    return "\n\nExamples:\n" + "\n".join(f"  {program} {command.name} {line}".rstrip() for line in command.examples)


def prepare_jax(precision: str) -> None:
    """Configures JAX before its first use: precision, one CPU device per core, compilation cache.

    The cache is ``JAX_COMPILATION_CACHE_DIR`` or, by default, in the platform's cache folder.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("rvsmjax"))

    if precision == "float64":
        jax.config.update("jax_enable_x64", True)
    given = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not given and "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):  # JAX is already initialized
            jax.config.update("jax_num_cpu_devices", usable_cores())


def join(coordinator: str, processes: int, process: int) -> None:
    """Connects this process to the others of a multi-process run.

    Raises:
      BadInput: invalid ``process``, or no connection.
    """
    import jax

    auto = coordinator == "auto"
    if not auto and not 0 <= process < processes:
        raise BadInput(f"process must be in [0, {processes}), got {process}")
    with contextlib.suppress(AttributeError):  # CPU only; JAX may drop the option once it is the default
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            None if auto else coordinator,
            None if auto else processes,
            None if auto else process,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"coordinator must be reachable from all processes, got {coordinator!r}: {error}") from None


def _one_line(box: str) -> str:
    """Returns the text between the first two rules of tyro's error box: the message without title and hints."""
    blocks: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        inside = line.strip().strip("│|").strip()
        if re.match(r"╭|[─-]{8}", inside):
            blocks.append([])
        else:
            blocks[-1].append(inside)
    message = " ".join(" ".join(next(filter(any, blocks[1:]), blocks[0])).split())
    return message.replace("Error parsing ", "").replace(": must", " must")


def _with_flag(message: str, config: Any) -> str:
    """Returns the message on one line, a field of the config at its start replaced by its flag."""
    message = " ".join(message.split())
    name, _, rest = message.partition(" ")
    flags = {field.name for field in dataclasses.fields(config)} if config else ()
    return f"--{name.replace('_', '-')} {rest}" if name in flags else message
