"""From a frozen encoder to an agent: random torques, linear latent dynamics, a cost in the latent's units."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.agents.config import FitConfig
from worldplan.agents.near import FEWEST, cut, radius_around, runs_near
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.agents.prediction import Prediction, predict_held_out
from worldplan.agents.quarter_turns import QuarterTurns, fit_quarter_turns
from worldplan.arrays import Floats
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import write_json
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import REACHER, WorldCard, same_world, world_of
from worldplan.errors import InvalidInput
from worldplan.learning.encoder import Encoder, encode, space_of
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import fit_dynamics
from worldplan.planning.space import LatentSpace
from worldplan.provenance import plain, provenance
from worldplan.rounding import rounded

JUDGED = 20  # episodes on which a fit is judged
AROUND = 24  # steps of the predictions to which a model around a goal is fitted
FRAME_STRIDE = 12  # frames of an episode so far apart that they show different poses


@dataclass(frozen=True, eq=False)
class FitReport:
    """A fitted agent and the numbers that say whether to trust it.

    Attributes:
        scale: radians per latent unit that the cost used.
        scale_source: origin of `scale`, as a sentence.
        environment_steps: number of simulator steps in the data.
        prediction: of episodes that it was not fitted to; None without such.
    """

    agent: PlanningAgent
    config: FitConfig
    scale: float
    scale_source: str
    environment_steps: int
    prediction: Prediction | None = None

    @property
    def gain(self) -> Floats:
        """Gain (m, d) of the LQR, torque per latent unit."""
        return self.agent.controller.lqr.gain

    @property
    def radius(self) -> float:
        """Spectral radius of the fitted model's closed loop; below 1 is stable."""
        return self.agent.controller.lqr.radius

    @property
    def moduli(self) -> Floats:
        """Absolute eigenvalues of A, descending."""
        return np.sort(np.abs(np.linalg.eigvals(self.agent.dynamics.A)))[::-1]

    @property
    def noise(self) -> dict[str, Floats]:
        """Standard deviations of the identified noise along its principal axes: per step, and of the encoder."""
        n = self.agent.encoder.latent_dim
        process, observation = self.agent.dynamics.process_noise, self.agent.dynamics.observation_noise
        blocks = {} if process is None else {"process": process[-n:, -n:]}
        blocks |= {} if observation is None else {"encoder": observation}
        return {name: np.sqrt(np.linalg.eigvalsh(block).clip(min=0))[::-1] for name, block in blocks.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the agent's own matrices (`agent.json` holds them)."""
        facts = {
            "config": asdict(self.config),
            "encoder_sha256": _card(self.agent.encoder).get("sha256"),
            "environment_steps": self.environment_steps,
            "scale": self.scale,
            "scale_source": self.scale_source,
            "gain": self.gain,
            "closed_loop_radius": self.radius,
            "eigenvalue_moduli": self.moduli,
            "noise_std": self.noise,
        }
        if self.prediction is not None:
            facts |= {"prediction": self.prediction.errors, "verdict": self.prediction.verdict}
        return plain(facts)  # type: ignore[no-any-return]

    def rows(self) -> list[tuple[str, str]]:
        """The same numbers as text, in pairs of name and value."""
        charts = self.agent.charts
        noise = [(f"{name} noise, standard deviations", _numbers(std)) for name, std in self.noise.items()]
        return [
            ("environment steps", str(self.environment_steps)),
            ("radians per latent unit", f"{rounded(self.scale)} ({self.scale_source})"),
            *((f"gain, torque {i + 1}", _numbers(row)) for i, row in enumerate(self.gain)),
            ("eigenvalue moduli of A", _numbers(self.moduli)),
            ("closed-loop radius", f"{self.radius:.4f}"),  # how far below 1 is what counts
            (
                "a quarter turn of the image shifts the latent by",
                "nothing alike" if charts is None else _numbers(charts.shift),
            ),
            *noise,
            *self._predicted(),
        ]

    def _predicted(self) -> list[tuple[str, str]]:
        if self.prediction is None:
            return []
        errors = [
            (
                f"error {e.steps} steps ahead, of the latents' spread",
                f"{rounded(e.error)} (staying: {rounded(e.persistence)})",
            )
            for e in self.prediction.errors
        ]
        return [*errors, ("on held-out episodes, the model", self.prediction.verdict)]

    def save(self, folder: Path | str, command: str = "") -> Path:
        """Write the agent for `load_agent`, and `fit.json` with these numbers and their provenance."""
        written = self.agent.save(folder)
        write_json(written / "fit.json", {**provenance(command, self.config.seed), **self.to_dict()})
        return written


def fit_agent(
    encoder: Encoder,
    data: Trajectories,
    config: FitConfig | None = None,
    world: WorldCard = REACHER,
    *,
    held_out: Trajectories | None = None,
    around: NDArray[np.uint8] | None = None,
) -> FitReport:
    """Fit linear dynamics to an encoder's latents of random-torque episodes, and put a planner on top.

    No reward and no joint angle is read. The cost is `|h - g|^2 + (control_weight / scale^2) |u|^2`, plus the term of
    `velocity_weight`. One latent unit is `scale` radians, so the terms keep the ratio that they have in radians. In
    other worlds than the Reacher, the unit in place of a radian is the spread of the latents of `data` (on circles, a
    radian), and the unit of an action is half its range.

    Args:
        encoder: a frozen encoder.
        data: random-torque episodes with frames (`worldplan.envs.tasks.random_torques`).
        config: None for the defaults.
        world: the world of the episodes.
        held_out: other episodes, on which the report judges the model; None judges it nowhere.
        around: frame (S, S, 3) of a goal, for plants that are linear only near it: only runs of frames near it count,
            for the fit as for the judgement. None takes all.

    Raises:
        InvalidInput: the episodes do not identify the dynamics, or the encoder is for another world.
        NotStabilizable: no feedback stabilises what was fitted.
    """
    config = config or FitConfig()
    trained = world_of(_card(encoder))
    if trained is not None:
        same_world("this encoder", trained, world)
    latents = [encode(encoder, frames) for frames in data.frames]
    part = None
    if around is not None:
        part = _Around.goal(encoder, around, latents, config)
        latents, data = part.of(latents, data)
        config = replace(config, horizon=part.horizon)
    scale, source = (config.scale, "as given") if config.scale is not None else world_scale(encoder, latents, world)
    agent = build_agent(encoder, latents, data, replace(config, scale=scale), world)
    prediction = None
    if held_out is not None:
        seen = [encode(encoder, frames) for frames in held_out.frames]
        try:
            seen, held_out = (seen, held_out) if part is None else part.of(seen, held_out)
            prediction = predict_held_out(agent.dynamics, seen, held_out, space_of(encoder))
        except _NothingNear:  # then nothing judges
            prediction = None
    return FitReport(agent, config, scale, source, data.steps, prediction)


class _NothingNear(InvalidInput):
    """No episode passes by the goal."""


@dataclass(frozen=True, eq=False)
class _Around:
    """The ellipse around a goal's latent that counts."""

    goal_latent: Floats
    radius: Floats
    space: LatentSpace
    near: float
    horizon: int

    @classmethod
    def goal(cls, encoder: Encoder, frame: NDArray[np.uint8], latents: list[Floats], config: FitConfig) -> _Around:
        latent, space = encode(encoder, np.asarray(frame)[None])[0], space_of(encoder)
        horizon = AROUND if config.horizon is None else config.horizon
        return cls(latent, radius_around(latents, latent, config.near, space), space, config.near, horizon)

    def of(self, latents: list[Floats], data: Trajectories) -> tuple[list[Floats], Trajectories]:
        fewest = max(self.horizon, FEWEST)
        runs = runs_near(latents, self.goal_latent, self.radius, self.space, fewest)
        if not runs:
            raise _NothingNear(
                f"no run of {fewest} steps stays near the goal; take a larger share of the frames (--near, now "
                f"{self.near:g}), a shorter --horizon, or record episodes that pass by it"
            )
        return cut(latents, data, runs)


@dataclass(frozen=True, eq=False)
class Recorded:
    """Episodes of a folder: those to fit to, others to judge by (None if there are none), and their world."""

    data: Trajectories
    held_out: Trajectories | None
    world: WorldCard


def recorded(folder: Path | str, count: int) -> Recorded:
    """The first training episodes in a folder, as many as `count` or as there are.

    To judge by, there are the first test episodes, or else the next training episodes.

    Raises BadFile if a file is missing or damaged.
    """
    dataset = EpisodeDataset(folder)
    dataset.verify()
    data = dataset.load("train", frames=True)
    tests = any(any(shard["test"]) for shard in dataset.shards)
    others = _part(dataset.load("test", frames=True), 0, JUDGED) if tests else _part(data, count, count + JUDGED)
    first = _part(data, 0, count)
    assert first is not None
    return Recorded(first, others, dataset.world)


def _part(data: Trajectories, start: int, stop: int) -> Trajectories | None:
    """Some of the episodes, without their true states; None if there are not so many."""
    if start >= len(data):
        return None
    return replace(data, **{x: getattr(data, x)[start:stop] for x in ("frames", "actions", "rewards")}, info={})


def build_agent(
    encoder: Encoder, latents: list[Floats], data: Trajectories, config: FitConfig, world: WorldCard = REACHER
) -> PlanningAgent:
    """Put dynamics, charts, cost and planner on top of an encoder.

    `latents` are E arrays (T + 1, n), the encoder's output on the frames of `data`. A `scale` of None in `config` is 1.
    Other arguments and errors are those of `fit_agent`.
    """
    space = space_of(encoder)
    dynamics = fit_dynamics(latents, data.actions, order=2, space=space, horizon=config.horizon or 0)
    scale = 1.0 if config.scale is None else config.scale
    low, high = np.array(world.action_low), np.array(world.action_high)
    cost = QuadraticCost.goal_reaching(
        encoder.latent_dim, config.control_weight / scale**2, config.velocity_weight, dynamics.action_dim
    )
    cost = replace(cost, R=cost.R / np.square((high - low) / 2.0))
    charts = None
    if world.name == REACHER.name:
        charts = find_charts(encoder, np.concatenate([frames[::FRAME_STRIDE] for frames in data.frames]))
    limits = {"action_low": _limit(low), "action_high": _limit(high)}
    return PlanningAgent(encoder, dynamics, cost, config.planner, charts=charts, **limits)


def _limit(limits: Floats) -> Any:
    """One number if all are the same."""
    return float(limits[0]) if (limits == limits[0]).all() else limits


def find_charts(encoder: Any, frames: NDArray[np.uint8]) -> QuarterTurns | None:
    """Quarter turns of the image as charts, or None if they do not shift this encoder's latent.

    None too if the latent has circles: these have no seam to stay away from.
    """
    if not space_of(encoder).flat:
        return None
    try:
        return fit_quarter_turns(encoder, frames)
    except InvalidInput:
        return None


def world_scale(encoder: Any, latents: list[Floats], world: WorldCard = REACHER) -> tuple[float, str]:
    """Radians per latent unit, from an encoder's card, and a sentence that says where they came from.

    In other worlds than the Reacher it is one over the spread of the latents, E arrays (T + 1, n).
    """
    if not space_of(encoder).flat:
        return 1.0, "circles are in radians"
    if world.name != REACHER.name:
        spread = float(np.sqrt(np.concatenate(latents).var(axis=0).mean()))
        if not spread > 0.0:
            raise InvalidInput("the encoder gives the same latent for all frames; train another")
        return 1.0 / spread, "one over the spread of the latents"
    data = _card(encoder).get("data", {})
    recorded = data.get("summary", {}).get("angle_deviation")
    if recorded:
        return float(np.exp(np.mean(np.log(recorded)))), "geometric mean of the deviations of the recorded angles"
    scales = data.get("world", {}).get("scale")
    if not scales:
        return 1.0, "the encoder's card names no scale: 1 taken, set --scale if you know better"
    if len(set(scales)) > 1:
        text = " and ".join(f"{s:g}" for s in scales)
        return 1.0, f"the encoder's world has scales {text}, no single one: 1 taken, set --scale if you know better"
    return float(scales[0]), "from the encoder's card"


def _card(encoder: Any) -> dict[str, Any]:
    return getattr(encoder, "card", {})


def _numbers(values: Floats) -> str:
    return "  ".join(map(rounded, values))
