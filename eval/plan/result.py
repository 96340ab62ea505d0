"""Result of `worldplan plan`: the episodes, the table, the JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from worldplan.arrays import Floats, Frames
from worldplan.envs.reacher import QPOS_TOLERANCE, TIP_TOLERANCE
from worldplan.errors import InvalidInput
from worldplan.eval.control.episodes import ControlSummary
from worldplan.eval.control.timing import StepTime
from worldplan.eval.plan.config import PlanConfig
from worldplan.eval.show.table import NONE, Column, Table, number, rate
from worldplan.eval.statistics.estimate import Estimate
from worldplan.provenance import plain
from worldplan.rounding import rounded

FEW = 100  # below so many episodes the notes warn


@dataclass(frozen=True, eq=False)
class Episode:
    """T steps of the agent; `goal_qpos`, `tip_distance`, `success`, `cost_ratio` are None when the goal was an image.

    Attributes:
        start_qpos: (2,) radians, like `goal_qpos`.
        qpos: (T + 1, 2) joint angles, radians.
        actions: (T, 2) torques in [-1, 1].
        latents: (T + 1, n) encoded frames, in the chart that the agent planned in.
        goal_latent: (n,) encoded goal image, likewise.
        tip_distance: (T + 1,) fingertip to the goal's, metres.
        success: whether the criterion held at the last step.
        cost_ratio: cost over the true-state clipped LQR's.
        fallbacks: steps at which the planner's solver failed and clipped LQR acted.
        goal_image: (64, 64, 3), as shown to the agent.
        frames: (T + 1, 64, 64, 3); None if not kept.
        chart: in quarter turns of the image.
    """

    start_qpos: Floats
    goal_qpos: Floats | None
    qpos: Floats
    actions: Floats
    latents: Floats
    goal_latent: Floats
    tip_distance: Floats | None
    success: bool | None
    cost_ratio: float | None
    fallbacks: int
    goal_image: Frames
    frames: Frames | None
    chart: int = 0

    @property
    def latent_distance(self) -> Floats:
        """(T + 1,) distance to the goal in latent units."""
        return np.asarray(np.linalg.norm(self.latents - self.goal_latent, axis=1))

    @property
    def film(self) -> Frames:
        """The frames.

        Raises:
            InvalidInput: they were not kept.
        """
        if self.frames is None:
            raise InvalidInput("the frames of this episode were not kept")
        return self.frames

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without images."""
        images = ("frames", "goal_image")
        facts = {name: value for name, value in vars(self).items() if name not in images}
        return plain(facts | {"latent_distance": self.latent_distance}, digits=6)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class LatentSummary:
    """Median latent distance to a goal image at the end of the episodes, for goals whose angles are unknown."""

    name: str
    episodes: int
    end: Estimate


@dataclass(frozen=True, eq=False)
class PlanReport:
    """Result of `plan_to_goals`; `time` and `episodes` are the agent's.

    Attributes:
        agent: its name, the SHA-256 of its encoder, the planner and its options.
        controllers: one row each, the agent first; empty when the goal was an image.
        distances: one row per controller when the goal was an image; empty otherwise.
    """

    config: PlanConfig
    agent: dict[str, Any]
    controllers: tuple[ControlSummary, ...]
    distances: tuple[LatentSummary, ...]
    time: StepTime
    episodes: tuple[Episode, ...]

    @property
    def title(self) -> str:
        """The outcome, in one line."""
        n = len(self.episodes)
        if not self.controllers:
            first, last = (np.median([e.latent_distance[k] for e in self.episodes]) for k in (0, -1))
            return f"Goal image from pixels: latent distance {rounded(first)} → {rounded(last)} (median of {n})"
        reached = sum(bool(e.success) for e in self.episodes)
        return f"Reaching goal images from pixels: {reached} of {n} goals reached"

    @property
    def notes(self) -> list[str]:
        """Notes for a reader of the table, a sentence each."""
        n, failed = len(self.episodes), sum(e.fallbacks for e in self.episodes)
        criterion = f"fingertip within {TIP_TOLERANCE} m of the goal's"
        if self.config.success == "qpos":
            criterion = f"both joints within {QPOS_TOLERANCE} rad of the goal's"
        notes = [
            f"Reached: {criterion} at the last of 100 steps of 20 ms; steps: of those that did.",
            "Cost: squared joint errors + .1 squared torque, per episode over the true-state clipped LQR's.",
            "Brackets: 95% intervals.",
        ]
        if not self.controllers:
            notes[:2] = ["The goal's angles are unknown, and so are success and cost; distances are in latent units."]
        if n < FEW:
            notes.append(f"n = {n} is small: the intervals say little; --episodes 300 says more.")
        if failed:
            notes.append(f"The planner's solver failed at {failed} of {100 * n} steps; clipped LQR acted there.")
        return notes

    @property
    def filmed(self) -> list[Episode]:
        """The episodes whose frames were kept, which are the first."""
        return [episode for episode in self.episodes if episode.frames is not None]

    def table(self) -> Table:
        """One row per controller."""
        time = f"{rounded(self.time.predict_ms)}\n{rounded(self.time.ratio)} x network"
        if not self.controllers:
            head = Column("latent distance to the goal at the end, median")
            ends = [[r.name, number(r.end), time if r is self.distances[0] else NONE] for r in self.distances]
            return Table(self.title, ("controller", head, "ms per step"), ends, self.notes)
        heads = ("controller", "reached", "fingertip\nerror, mm", "steps to\nreach", "cost ratio,\nmedian")
        rows = [
            [
                row.name,
                rate(row.reach, row.episodes),
                number(row.tip_error_median, 1000.0),
                "never" if row.steps_to_reach is None else number(row.steps_to_reach),
                number(row.cost_ratio_median),
                number(row.cost_ratio_mean),
                time if row is self.controllers[0] else NONE,
            ]
            for row in self.controllers
        ]
        return Table(self.title, (*heads, "cost ratio,\nmean", "ms per step"), rows, self.notes)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: every number, no image."""
        facts = {
            "config": asdict(self.config),
            "agent": self.agent,
            "controls": self.controllers,
            "distances": self.distances,
            "time": {**asdict(self.time), "ratio": self.time.ratio},
            "notes": self.notes,
        }
        return {**plain(facts), "episodes": [episode.to_dict() for episode in self.episodes]}
