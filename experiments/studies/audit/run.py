"""Checks every claim, or replays one lane."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ...cli.interrupts import in_thread
from ...cli.runner import Report, conduct
from ...records.environment import Clock, usable_cores
from ...records.folder import BadInput, Facts
from .config import AuditConfig

if TYPE_CHECKING:
    from .evaluate import Size
    from .summary import Verdict

OFTEN_OUTSIDE = {"relu points": 1.4, "I limit": 1.4}
"""Subjects on whose lanes the conditions of some claim often fail, and how many times as many are drawn."""


def run(config: AuditConfig, console: Console, clock: Clock) -> Path | None:
    """Runs the audit and returns the folder of its record; None after a replay.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    from .claims import CLAIMS

    # In the order of the table, whatever was asked for: the same claims make the same program.
    names = tuple(name for name in CLAIMS if name in config.claims) or tuple(CLAIMS)
    for flag, asked in (("claims", config.claims), ("replay", (config.replay,) if config.replay else ())):
        for name in asked:
            if name not in CLAIMS:
                raise BadInput(f"{flag} must be names of claims, such as {', '.join(list(CLAIMS)[:3])}, got {name}")
    for flag, least in (("lanes", 1), ("restarts", 0), ("iterations", 1), ("lane", 0)):
        value = getattr(config, flag)
        if not least <= value < 2**31:
            raise BadInput(f"{flag} must be in [{least}, 2**31), got {value}")
    if config.replay:
        if config.replay not in names:
            raise BadInput(f"replay must be among --claims, got {config.replay}")
        _replay(config, names, console)
        return None
    docs = Path(config.docs) if config.docs else None
    if docs is not None and (docs.is_dir() or not docs.parent.is_dir()):
        raise BadInput(f"docs must be a file in a folder that exists, got {docs}")

    def work(folder: Path) -> tuple[Facts, Report]:
        from .report import sections_of

        verdicts = in_thread(lambda: _audit(config, names, clock))
        found = {verdict.claim.name: verdict.to_json() for verdict in verdicts}
        (folder / "claims.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {}, lambda facts: sections_of(verdicts, facts)

    out = conduct("audit", "The papers' claims, checked", config, console, clock, work)
    if docs is not None:
        docs.write_bytes((out / "report.md").read_bytes())
    return out


def _audit(config: AuditConfig, names: tuple[str, ...], clock: Clock) -> list[Verdict]:
    import jax
    import numpy as np

    from .claims import CLAIMS
    from .evaluate import claims_of, measured
    from .falsifier import Search, falsify
    from .subjects import SUBJECTS
    from .summary import Verdict

    size, search = size_of(config), Search(config.restarts, config.iterations)
    verdicts = {name: Verdict(CLAIMS[name]) for name in names}

    def settle(subject: str) -> None:
        # Half the lanes have l1, half one of the others: as many for the claims on either.
        lanes = np.arange(int(config.lanes * (1 + SUBJECTS[subject].split) * OFTEN_OUTSIDE.get(subject, 1)))
        with jax.enable_x64(True):
            for part, seen in measured(subject, names, config.key, lanes, size):
                for name, margins in seen.items():
                    verdicts[name].add(part, margins)
            if config.restarts:
                for target, found in falsify(subject, names, config.key, search, size).items():
                    verdicts[target.claim].margins[target.margin].found = found

    # Half of the time goes into compiling, which takes one core; the rest already runs on all of them.
    with clock.phase("run"), ThreadPoolExecutor(min(usable_cores(), 4)) as pool:
        list(pool.map(settle, [subject for subject in SUBJECTS if claims_of(subject, names)]))
    return list(verdicts.values())


def size_of(config: AuditConfig) -> Size:
    """Returns the sizes of the programs: a few lanes do not fill a full one."""
    from .evaluate import Size

    return Size(tile=32, tiles=2) if config.quick else Size()


def _replay(config: AuditConfig, names: tuple[str, ...], console: Console) -> None:
    """Prints a lane's parameters and the claim's margins on it."""
    import jax
    import numpy as np

    from ...reports.document import Section, Table, show
    from .claims import CLAIMS
    from .evaluate import measured
    from .lanes import facts
    from .report import margin_rows

    claim = CLAIMS[config.replay]
    with jax.enable_x64(True):
        lane = np.array([config.lane])
        (_, seen), *_ = measured(claim.subject, names, config.key, lane, size_of(config))
        shown = facts(claim.subject, config.key, config.lane)
    one = jax.tree.map(lambda x: float(x[0]), seen[claim.name])
    blocks: list[str | Table] = [
        f"{claim.where}: {claim.statement}",
        Table(["condition", "margin", "allowance", ""], margin_rows(one.conditions), labels=1),
        Table(["conclusion", "margin", "allowance", ""], margin_rows(one.conclusions), labels=1),
    ]
    show(console, [Section(f"{claim.name}, lane {config.lane}", blocks)])
    for name, value in shown.items():
        console.print(f"{name} = {value}", highlight=False, soft_wrap=True)
