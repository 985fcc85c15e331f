"""Flags of ``stopping``."""

from __future__ import annotations

import dataclasses

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion, lanes
from ...cli.flags import CommonFlags, Names, Number, Numbers, WholeNumber


@dataclasses.dataclass(frozen=True)
class StoppingConfig(CommonFlags):
    """Score stopping rules by how well they explain the paper's θ(w̄,w*).

    The grid is all combinations of the values of the flags.
    """

    w_star: Names = ("sphere", "positive")
    """Distributions of w*: sphere (uniform), positive (components uniform in [0, 1], normalised)."""
    w0: Names = ("sphere", "positive")
    """Distributions of w⁰, as for w*."""
    learning_rate: Numbers = (0.25, 0.05)
    """Learning rates η."""
    seeds: WholeNumber = 400
    """Random problems per d."""
    time: Number = 25.0
    """Length of a run, steps times learning rate; the error decreases by a factor e in a time of k = 2."""
    quick: bool = False
    """Small sizes (w* and w⁰ on the sphere, η = 0.25, 40 seeds) unless flags override them."""

    @classmethod
    def small(cls) -> StoppingConfig:
        """Returns the defaults of ``--quick``."""
        return cls(w_star=("sphere",), w0=("sphere",), learning_rate=(0.25,), seeds=40)


def work(config: StoppingConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    return lanes(config, "w_star", "w0", "learning_rate", each=15)


STUDY = Command(
    name="stopping",
    config=StoppingConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("stopping", Cost(10, 50, 1.2), work),
)
