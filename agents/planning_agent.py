"""The planner in the loop: encoder, state estimator and controller behind SB3's `predict`."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.agents.latent_controller import LatentController
from worldplan.agents.planners import Planner
from worldplan.agents.quarter_turns import QuarterTurns, encode_turned, turn
from worldplan.arrays import Floats, finite_array, some
from worldplan.checks import check_name
from worldplan.data.cards import ZOO, Cards
from worldplan.data.files import inside, read_json
from worldplan.data.hub import is_address
from worldplan.data.trajectories import Starts, State
from worldplan.data.world_card import FRAME_SIZE, WorldCard, world_of
from worldplan.errors import BadFile, InvalidInput
from worldplan.learning.encoder import (
    CARDS as ENCODERS,
    Encoder,
    PixelEncoder,
    check_frames,
    encode,
    known_encoders,
    latent_dim_of,
    load_encoder,
    space_of,
)
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.provenance import pinned

_OWN_ENCODER = re.compile(r"encoder(-[0-9a-f]{12})?")
CARDS = Cards(
    "agent",
    ZOO / "agents",
    "agent.json",
    "",
    {"format": 1},
    "run `worldplan fit`",
    beside=("fit.json",),
    parts={"encoder": ENCODERS},
)
known_agents = CARDS.known


class AgentState(NamedTuple):
    """What `predict` carries from step to step, for N rows.

    Attributes:
        mean: (N, d) filter mean.
        action: (N, m) last action.
        turns: (N,) quarter turn of the image in which the episode is planned.
        goal: (N, n) encoded goal.
        fallbacks: (N,) number of the episode's steps at which the planner failed and clipped LQR acted.
        shown: (N, ...) the goal as it was given.
        ignored: (N,) number of the episode's frames that cannot show the plant, and were predicted through.
        blind: (N,) how many of these came in a row up to now; after `PATIENCE` the filter starts anew from the frame.
    """

    mean: Floats
    action: Floats
    turns: NDArray[np.int64]
    goal: Floats
    fallbacks: NDArray[np.int64]
    shown: NDArray[Any]
    ignored: NDArray[np.int64]
    blind: NDArray[np.int64]


class PlanningAgent:
    """Reaches goal images: encode, estimate (position, velocity), plan, act.

    `u_t = clip(pi(m_t, g), low, high)`: `g` is the encoded goal, `m_t` the estimate of `[h; v]` from all frames so far,
    pi the planner; `controller` holds filter and planner. Let the encoder be the true state up to a rotation, and the
    cost invariant. Then the torques are those that planning on the true state gives (Theorem 4 of Klindt, LeCun and
    Balestriero 2026, arXiv 2605.26379).

    Args:
        encoder: map of frames to latents (T, n), with `latent_dim`.
        dynamics: dynamics on (n,) or (2 n,) states.
        cost: cost on the same states.
        planner: a name in `PLANNERS`, or your own `Planner`; only an agent with a name can be saved.
        action_low: lowest action, a number or (m,).
        action_high: highest action, a number or (m,).
        charts: plan each episode in the quarter turn of the image in which start and goal lie nearest the centre; None
            for scenes without that symmetry. Goals that are given as latents are upright.
        **options: options of the planner. `mpc`: `horizon`, and `constraints` as `MPCProblem` takes them, on states
            whose circles start in [-pi, pi); `cem` and `mppi`: `horizon`, `seed`, and the fields of `CEMConfig` and
            `MPPIConfig`. Every search starts from zeros with the same draws; more `iterations` add precision.

    Raises:
        InvalidInput: sizes that do not fit together, or constraints beside charts.
        UnknownName: no such planner.
        NotStabilizable: the dynamics cannot be stabilised.
    """

    def __init__(
        self,
        encoder: Encoder,
        dynamics: LinearDynamics,
        cost: QuadraticCost,
        planner: str | Planner = "lqr",
        *,
        action_low: ArrayLike = -1.0,
        action_high: ArrayLike = 1.0,
        charts: QuarterTurns | None = None,
        **options: Any,
    ) -> None:
        n = latent_dim_of(encoder)
        self.encoder, self.dynamics, self.cost, self.planner = encoder, dynamics, cost, planner
        self.charts, self._size = charts, getattr(encoder, "size", FRAME_SIZE)
        if not (charts is None or isinstance(charts, QuarterTurns)):
            raise InvalidInput(f"charts are QuarterTurns or None, got {charts!r}")
        if charts is not None and len(charts.shift) != n:
            raise InvalidInput(f"the charts are of latents of {len(charts.shift)}, the encoder gives {n}")
        if charts is not None and options.get("constraints") is not None:
            raise InvalidInput(
                "constraints speak of the latents of upright frames, and this agent plans in quarter turns of them: "
                "build it with charts=None"
            )
        self.controller = LatentController(
            dynamics,
            cost,
            n,
            planner,
            low=action_low,
            high=action_high,
            space=space_of(encoder),
            **options,
        )
        limits = {"action_low": np.asarray(action_low).tolist(), "action_high": np.asarray(action_high).tolist()}
        self.options = {**limits, **options}  # after the controller, which says which options cannot be pickled

    @property
    def world(self) -> WorldCard | None:
        """The world that its encoder was trained in; None if nobody recorded it."""
        return world_of(getattr(self.encoder, "card", {}))

    def predict(
        self, observation: Any, state: State = None, episode_start: Starts = None, deterministic: bool = True
    ) -> tuple[NDArray[np.float32], AgentState]:
        """Torques (m,) or (N, m), float32, for one observation or N of them, and the state.

        Args:
            observation: dictionary of `observation`, uint8 (S, S, 3), and `desired_goal`, such an image or a latent
                (n,) of floats; or both with a leading N. Images may have their channels first, as SB3 keeps them.
            state: what the last call returned, left as it is; None starts anew.
            episode_start: (N,); True resets that row. If all are True, N may differ from the last call's.
            deterministic: ignored; what `cem` and `mppi` draw is the same at every step.

        Raises:
            InvalidInput: a key is missing, a dtype or shape is wrong, or `state` or `episode_start` has another N.
        """
        frames, goals, single = self._checked(observation)
        try:
            actions, after = self._step(frames, goals, state, episode_start)
        except (TypeError, AttributeError, IndexError, ValueError):
            if state is not None:  # looked at only now: every control step would take 2% longer
                self._check_state(state)
            raise
        return (actions[0] if single else actions), after

    def _step(
        self, frames: NDArray[np.uint8], goals: NDArray[Any], state: State, episode_start: Starts
    ) -> tuple[NDArray[np.float32], AgentState]:
        """Torques (N, m) for N observations, and the state."""
        fresh = np.zeros(len(frames), dtype=bool) if episode_start is None else np.ravel(episode_start).astype(bool)
        if len(fresh) != len(frames):
            raise InvalidInput(f"got {len(fresh)} episode starts for {len(frames)} observations")
        before = None if state is None else AgentState(*state)
        if before is not None and len(before.mean) != len(frames) and not fresh.all():
            raise InvalidInput(f"got {len(frames)} observations for the state of {len(before.mean)}")
        if before is None or len(before.mean) != len(frames):
            turns, goal = self._choose(frames, goals)
            shown = goals.copy()  # callers may draw the next goals into the same array
            fallbacks = ignored = blind = np.zeros(len(frames), dtype=np.int64)
            mean = self.controller.start(encode(self.encoder, turn(frames, turns)))
        else:
            turns, goal, shown = before.turns, before.goal, before.shown
            fallbacks = before.fallbacks
            moved = fresh | _differ(shown, goals)
            anew = some(moved)
            if anew:
                turns, goal, shown = turns.copy(), goal.copy(), goals.copy()
                fallbacks = np.where(fresh, 0, fallbacks)
                turns[moved], goal[moved] = self._choose(frames[moved], goals[moved])
            latents = encode(self.encoder, turn(frames, turns))
            mean, ignored, blind = self.controller.follow(
                before.mean, before.action, latents, fresh, before.ignored, before.blind
            )
            if anew:  # a new chart turns positions and leaves velocities alone; a new episode starts at rest
                turned = (turns != before.turns) & ~fresh
                mean[turned] = np.concatenate([latents, before.mean[:, self.encoder.latent_dim :]], axis=1)[turned]
        actions, failed = self.controller.act(mean, goal)
        applied = actions.astype(np.float32)
        after = AgentState(mean, applied.astype(np.float64), turns, goal, fallbacks + failed, shown, ignored, blind)
        return applied, after

    def _check_state(self, state: Any) -> None:
        """Raise InvalidInput if it has not the entries and shapes that `predict` returns."""
        shapes: list[tuple[int, ...]] = []
        try:
            before = AgentState(*state)
            shapes = [entry.shape for entry in before]
            numbers = {entry.dtype.kind for entry in before} <= set("biuf")
            mean, action, _, goal, *_ = shapes
            widths = self.dynamics.state_dim, self.dynamics.action_dim, self.encoder.latent_dim
            fits = (mean, action, goal) == tuple((*mean[:1], width) for width in widths)
            if numbers and fits and all(shape[:1] == mean[:1] for shape in shapes):
                return
        except (TypeError, AttributeError):  # not so many entries, or other things than arrays
            pass
        raise InvalidInput(f"state must be None or what the last call returned, got shapes {shapes or type(state)}")

    def _choose(self, frames: NDArray[np.uint8], goals: NDArray[Any]) -> tuple[NDArray[np.int64], Floats]:
        """The chart of each row, and its goal encoded in it."""
        upright = np.zeros(len(frames), dtype=np.int64)
        if goals.ndim < 3:
            return upright, goals.astype(np.float64)
        if self.charts is None:
            return upright, encode(self.encoder, goals)
        latents = encode_turned(self.encoder, goals)
        chart = self.charts.choose(encode_turned(self.encoder, frames), latents)
        return chart, latents[np.arange(len(frames)), chart]

    def _checked(self, observation: Any) -> tuple[NDArray[np.uint8], NDArray[Any], bool]:
        n = self.encoder.latent_dim
        try:
            frames, goals = observation["observation"], np.asarray(observation["desired_goal"])
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise InvalidInput(
                f"an observation is a dictionary of two arrays, `observation` and `desired_goal` ({error})"
            ) from error
        frames, goals = (channels_last(images, self._size) for images in (frames, goals))
        frames = check_frames(frames, self._size)
        single = frames.ndim == 3
        frames, goals = (frames[None], goals[None]) if single else (frames, goals)
        if goals.ndim < 3:
            goals = finite_array("a latent goal", goals)
            if goals.shape != (len(frames), n):
                raise InvalidInput(f"latent goals of {len(frames)} frames are ({len(frames)}, {n}), got {goals.shape}")
        elif check_frames(goals, self._size).shape != frames.shape:
            raise InvalidInput(f"need one goal image per frame, got {goals.shape} for {frames.shape}")
        return frames, goals, single

    def __repr__(self) -> str:
        d, m = self.dynamics.state_dim, self.dynamics.action_dim
        return f"PlanningAgent({self.encoder!r}, planner {self.planner!r}, {d} states, {m} actions)"

    def save(self, folder: Path | str) -> Path:
        """Write encoder, dynamics, cost and planner to a folder that `load_agent` reads; returns the folder.

        An encoder that ships with worldplan is written by name and SHA-256, any other with its weights. Raises
        InvalidInput if the planner has no name or has constraints, which are code, or the encoder is not worldplan's
        own: its weights cannot be written.
        """
        folder = Path(folder)
        if not isinstance(self.planner, str):
            raise InvalidInput("only agents whose planner has a name in `PLANNERS` can be saved")
        if self.options.get("constraints") is not None:
            raise InvalidInput("constraints are code and cannot be saved; hand them to `load_agent` again")
        if not isinstance(self.encoder, PixelEncoder):
            raise InvalidInput("only agents with a worldplan encoder (`load_encoder`) can be saved")
        name = self.encoder.name
        digest = self.encoder.card.get("sha256")
        if not (name in known_encoders() and ENCODERS.read(ENCODERS.find(name))["sha256"] == digest):
            name, digest = self._save_encoder(folder)
        before = str(read_json(folder / CARDS.card).get("encoder")) if (folder / CARDS.card).exists() else name
        CARDS.write_card(folder, {"encoder": name, "encoder_sha256": digest, **self.to_dict()})
        if before != name and _OWN_ENCODER.fullmatch(before) and inside(folder, before).is_dir():
            shutil.rmtree(folder / before)  # of the agent that this one replaces, and of no other
        return folder

    def _save_encoder(self, folder: Path) -> tuple[str, str]:
        """Write the encoder's weights into the folder; returns the name of their folder, and their SHA-256.

        If an agent is there, its encoder stays until the agent's card is another.
        """
        assert isinstance(self.encoder, PixelEncoder)
        if not (folder / CARDS.card).exists():
            return "encoder", self.encoder.save(folder / "encoder")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".encoder") as beside:
            digest = self.encoder.save(Path(beside) / "new")
            name, there = f"encoder-{digest[:12]}", str(read_json(folder / CARDS.card).get("encoder"))
            if _OWN_ENCODER.fullmatch(there) and _files(inside(folder, there)) == _files(Path(beside) / "new"):
                return there, digest
            if not (folder / name).exists():
                (Path(beside) / "new").rename(folder / name)
        return name, digest

    def to_dict(self) -> dict[str, Any]:
        """Everything but the encoder, as JSON values."""
        return {
            **CARDS.head,
            "planner": self.planner,
            "options": self.options,
            "dynamics": _lists(self.dynamics),
            "charts": None if self.charts is None else _lists(self.charts),
            "cost": _lists(self.cost),
        }


def channels_last(images: Any, size: int) -> Any:
    """Images (..., 3, S, S) as (..., S, S, 3), a view; anything else as it is."""
    first = isinstance(images, np.ndarray) and images.ndim in (3, 4) and images.shape[-3:] == (3, size, size)
    return np.moveaxis(images, -3, -1) if first and size != 3 else images


def _lists(value: LinearDynamics | QuadraticCost | QuarterTurns) -> dict[str, Any]:
    """The fields by name, arrays as lists."""
    return {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in asdict(value).items()}


def _files(folder: Path) -> dict[str, bytes]:
    """Bytes of the files of a folder, by name; none if there is no such folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def _differ(shown: NDArray[Any], goals: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows show another goal than before."""
    if shown.shape != goals.shape or shown.dtype != goals.dtype:
        return np.ones(len(goals), dtype=bool)
    if shown.tobytes() == goals.tobytes():  # nearly always, and a sixth of the time of NumPy's comparison
        return np.zeros(len(goals), dtype=bool)
    return np.asarray((shown != goals).reshape(len(goals), -1).any(axis=1))


def load_agent(
    name: str | Path, planner: str | None = None, *, trust_code: bool = False, **options: Any
) -> PlanningAgent:
    """Load an agent that ships with worldplan, or one from a folder or the Hugging Face hub.

    Args:
        name: a shipped name (`known_agents()`), a folder that `PlanningAgent.save` or `worldplan fit` wrote, or an
            address `hf://OWNER/NAME@REVISION` of such a folder on the hub (extra `hub`).
        planner: a name in `PLANNERS`; None takes the saved one.
        trust_code: lets the code run that an encoder of your own names; see `load_encoder`.
        **options: options of the planner, over the saved ones.

    Raises:
        UnknownName: neither a shipped name nor a folder, or no such planner.
        BadFile: a file is missing, damaged, or belongs to another encoder.
        HubError: the hub cannot be reached, or does not have it, for you or at all.
    """
    folder = CARDS.find(name)
    path, saved = folder / CARDS.card, CARDS.read(folder)
    try:
        own = inside(folder, saved["encoder"])
        if not own.is_dir():
            check_name("encoder", saved["encoder"], known_encoders())
        encoder = load_encoder(own if own.is_dir() else saved["encoder"], trust_code=trust_code)
        if own.is_dir() and is_address(name):
            encoder.name = f"{pinned(name)}/{saved['encoder']}"
        if encoder.card["sha256"] != saved["encoder_sha256"]:
            raise BadFile(path, f"was fitted to another encoder than {saved['encoder']!r}; run `worldplan fit`")
        dynamics, cost = LinearDynamics(**saved["dynamics"]), QuadraticCost(**saved["cost"])
        charts = None if saved["charts"] is None else QuarterTurns(**saved["charts"])
        agent = PlanningAgent(encoder, dynamics, cost, saved["planner"], charts=charts, **saved["options"])
    except (KeyError, TypeError, InvalidInput) as error:
        raise BadFile(path, f"is no agent ({error!r}); run `worldplan fit`") from error
    if planner in (None, agent.planner) and not options:
        return agent
    limits = {name: agent.options[name] for name in ("action_low", "action_high")}
    kept = agent.options if planner in (None, agent.planner) else limits
    return PlanningAgent(encoder, dynamics, cost, planner or agent.planner, charts=charts, **{**kept, **options})
