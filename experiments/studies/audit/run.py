"""The audit, or the replay of one lane."""

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

FACTORS = {"relu points": 1.4, "I limit": 1.4, "A path, any β": 0.5, "I path, any β": 0.5, "F path, any β": 0.5} | {
    "I late path, any β": 0.5,
    "I limit, any β": 0.1,
    "three limits, Tables 1 to 3": 1 / 15,
    "killed": 1 / 15,
}
"""Factors on the number of lanes: above 1 where some claim's conditions often fail, below 1 for a wider range of
parameters or a mean over draws at one setting."""


def run(config: AuditConfig, console: Console, clock: Clock) -> Path | None:
    """Runs the audit and returns the record's folder; None after a replay.

    Raises:
      BadInput: an invalid flag.
    """
    from .claims import CLAIMS

    # In the order of the table, so the same set of claims gives the same program.
    names = tuple(name for name in CLAIMS if name in config.claims) or tuple(CLAIMS)
    for flag, values in (("claims", config.claims), ("replay", (config.replay,) if config.replay else ())):
        for name in values:
            if name not in CLAIMS:
                raise BadInput(f"{flag} must be the name of a claim, such as {', '.join(list(CLAIMS)[:3])}, got {name}")
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
        raise BadInput(f"docs must be a file in an existing folder, got {docs}")

    def work(folder: Path) -> tuple[Facts, Report]:
        from .report import sections_of

        verdicts = in_thread(lambda: _audit(config, names, clock))
        claims = {verdict.claim.name: verdict.to_json() for verdict in verdicts}
        (folder / "claims.json").write_text(json.dumps(claims, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
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

    def audit_subject(subject: str) -> None:
        # Half of the lanes have l1, half l0 or tl1; claims on either get ``config.lanes`` lanes.
        count = config.lanes * (1 + SUBJECTS[subject].uses_penalty) * FACTORS.get(subject, 1)
        lanes = np.arange(max(1, int(count)))
        with jax.enable_x64(True):
            for batch in measured(subject, names, config.key, lanes, size):
                for name, margins in batch.margins.items():
                    verdicts[name].add(batch.lanes, margins, batch.round)
            if config.restarts:
                for target, result in falsify(subject, names, config.key, search, size).items():
                    verdicts[target.claim].margins[target.margin].found = result

    # Half of the time is compilation, on one core each; the rest already uses all cores.
    with clock.phase("run"), ThreadPoolExecutor(min(usable_cores(), 4)) as pool:
        list(pool.map(audit_subject, [subject for subject in SUBJECTS if claims_of(subject, names)]))
    return list(verdicts.values())


def size_of(config: AuditConfig) -> Size:
    """Returns the sizes of the programs; ``--quick`` has too few lanes for the default."""
    from .evaluate import Size

    return Size(tile=32, tiles=2) if config.quick else Size()


def _replay(config: AuditConfig, names: tuple[str, ...], console: Console) -> None:
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
        batches = measured(claim.subject, names, config.key, lane, size_of(config))
        margins = next(batch.margins for batch in batches if len(batch.lanes))
        parameters = facts(claim.subject, config.key, config.lane)
    one = jax.tree.map(lambda x: float(x[0]), margins[claim.name])
    blocks: list[str | Table] = [
        f"{claim.where}: {claim.statement}",
        Table(["condition", "margin", "allowance", ""], margin_rows(one.conditions), labels=1),
        Table(["conclusion", "margin", "allowance", ""], margin_rows(one.conclusions), labels=1),
    ]
    show(console, [Section(f"{claim.name}, lane {config.lane}", blocks)])
    for name, value in parameters.items():
        console.print(f"{name} = {value}", highlight=False, soft_wrap=True)
