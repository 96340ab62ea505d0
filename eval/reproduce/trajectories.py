"""What encoders learn from recorded motion, by how much of it there is and how much of it is excitation.

LeJEPA on pairs of frames and the objective `excitation` see the same episodes, the same network and as many steps.
Episodes are of SAC's policy with exploration noise of a known deviation, or of random torques. No paper has these rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldplan.agents.config import FitConfig
from worldplan.agents.exploration import explorer
from worldplan.agents.fitting import fit_agent, recorded
from worldplan.arrays import Floats, Frames
from worldplan.data.episodes import EpisodeDataset, StridedPairs
from worldplan.data.files import read_json, write_json
from worldplan.data.recipes import EpisodeConfig, Nuisances
from worldplan.data.saving import save_episodes
from worldplan.data.trajectories import Trajectories
from worldplan.data.windows import Windows
from worldplan.envs.datasets.episodes import interrupted, record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.envs.parallel import rollout_goals, rollout_states, simulate, target_spheres
from worldplan.envs.reacher import WRIST_LIMIT
from worldplan.envs.rendering import render_frames
from worldplan.envs.tasks import sample_tasks
from worldplan.errors import BadFile, UnknownName, WorldplanError
from worldplan.eval.control.baselines import RANDOM, REFERENCE, STILL
from worldplan.eval.control.episodes import ControlResult, evaluate_baselines, measure, summarise
from worldplan.eval.identifiability.circles import affine_error
from worldplan.eval.identifiability.excitation import excitation_report
from worldplan.eval.identifiability.regression import label_fit
from worldplan.eval.reproduce.motion import SCALES, Motion, MotionScale, controls, motions
from worldplan.eval.reproduce.stages import POLICY, settle
from worldplan.learning.encoder import PixelEncoder, encode, load_encoder, space_of
from worldplan.learning.excitation import Excitation, predicted, shares_of
from worldplan.learning.objectives import LeJEPA
from worldplan.learning.pretraining import pretrain
from worldplan.planning.space import LatentSpace
from worldplan.progress import Progress, silent
from worldplan.provenance import plain, provenance

ARM, LINES = LatentSpace("circle", "line"), LatentSpace.lines(2)
UNPLUGGED = {"planted": "no torque reaches the wrist"}
SCENE = Nuisances(stock=0.0, hidden=1.0)  # the easy scene, as in `Scale` "cpu": one look, no target
LOOK: dict[str, Any] = {"profile": "fast", "target": "hidden"}


@dataclass(frozen=True)
class MotionResult:
    """One encoder and its agent; numbers as JSON, empty where `reason` says why there is none.

    Attributes:
        r2: of wrapped angles from latents, by joint, on poses N(0, 1): two estimates.
        error: root mean square error of the best affine map over uniform poses, radians, by joint.
        control: summary of episodes of the reset distribution.
        J: of excitation, on held-out episodes: the sum of the coordinates' shares.
        truth: what J would be made of if the latent were the true angles: their shares, descending. Judges use it only.
        faults: what `worldplan diagnose` finds wrong with the episodes by this encoder; negative controls only.
    """

    motion: Motion
    seed: int
    reason: str = ""
    r2: tuple[dict[str, Any], ...] = ()
    error: tuple[dict[str, Any], ...] = ()
    control: dict[str, Any] | None = None
    J: float | None = None
    truth: tuple[float, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class MotionReport:
    """Result of `reproduce_trajectories`; `baselines` holds summaries of controllers that see no image."""

    name: str
    scale: MotionScale
    provenance: dict[str, Any]
    rows: tuple[MotionResult, ...]
    baselines: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        told = {motion.name: self.reported(motion) for motion in controls(self.scale)}
        return {**plain(self, digits=6), "scale": plain(self.scale.to_dict()), "reported": told}

    def of(self, motion: Motion) -> list[MotionResult]:
        """All seeds of a condition."""
        return [row for row in self.rows if row.motion == motion]

    def reported(self, control: Motion) -> list[bool]:
        """Whether the fault of a negative control was reported, by seed.

        A policy without noise must be refused, and shuffled actions must end in an error. Where the wrist's motor is
        unplugged, training must end in an error or the excitation report must name the motor. Without a circle,
        training must end in an error or reach a lower J than with one. A planted fault counts only where the same seed
        finds both joints without it: else the error may have another cause.
        """
        sound = {row.seed: row.J for row in self.of(replace(control, fault=""))}
        return [_reported(row, sound.get(row.seed)) for row in self.of(control)]


def _reported(row: MotionResult, sound: float | None) -> bool:
    """Whether a control was reported; `sound` is J of the run without the fault, None if that found nothing."""
    if not row.motion.fault:
        return row.reason.startswith("InvalidInput")
    if sound is None:
        return False
    if row.reason:
        return row.reason.startswith("EncoderCollapsed")
    if row.motion.fault == "unplugged":
        return any("Action 1 moves nothing" in fault for fault in row.faults)
    return row.motion.fault == "lines" and row.J is not None and sound > row.J


def reproduce_trajectories(
    out: Path | str,
    scale: str | MotionScale = "cpu",
    *,
    seed: int = 0,
    processes: int = 1,
    command: str = "",
    progress: Progress = silent,
    watch: Callable[[Iterator[int], int, int], Iterator[int]] = lambda steps, start, total: steps,
) -> MotionReport:
    """Record the episodes, train encoders, fit agents, judge them; arguments and errors are `reproduce_reacher`'s."""
    out = Path(out)
    if isinstance(scale, str) and scale not in SCALES:
        raise UnknownName("scale", scale, SCALES)
    sizes = SCALES[scale] if isinstance(scale, str) else scale
    settle(out, sizes, seed)
    judge = Judge(sizes, seed)
    conditions = list(dict.fromkeys([*motions(sizes), *controls(sizes)]))
    wanted = [(motion, k) for k in range(sizes.seeds) for motion in conditions]
    rows = []
    for motion, k in progress(iter(wanted), len(wanted)):
        path = out / "results" / f"{motion.name}-s{k}.json"
        if not path.exists():
            data = _episodes(out / "data" / motion.dataset, motion, sizes, seed, processes)
            result = MotionResult(motion, seed + k)
            try:
                folder = out / "encoders" / f"{motion.name}-s{k}"
                views, objective = _views(data, motion, sizes, seed)
                if isinstance(views, Windows):
                    result = replace(result, truth=_truth(views, data, sizes, seed + k))
                encoder = _encoder(folder, views, objective, sizes, seed + k, command, watch)
                result = replace(result, J=encoder.card["validation"].get("J"), **judge.encoder(encoder))
                if motion.fault:
                    found = excitation_report(data, motion.name, encoder, window=sizes.window, seed=seed)
                    result = replace(result, faults=tuple(found.faults))
                else:
                    result = replace(result, control=judge.agent(encoder, data.folder, motion.name))
            except BadFile:
                raise
            except WorldplanError as error:  # that nothing was learned is a result
                result = replace(result, reason=f"{type(error).__name__}: {error}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, plain(result, digits=6))
        rows.append(_read(path))
    name = scale if isinstance(scale, str) else "own"
    return MotionReport(name, sizes, provenance(command, seed), tuple(rows), judge.baselines())


def _read(path: Path) -> MotionResult:
    found = read_json(path)
    try:
        lists = {name: tuple(found[name]) for name in ("r2", "error", "truth", "faults")}
        return MotionResult(**{**found, **lists, "motion": Motion(**found["motion"])})
    except (KeyError, TypeError) as wrong:
        raise BadFile(path, "is no result of an encoder; delete it and start again") from wrong


def _episodes(folder: Path, motion: Motion, scale: MotionScale, seed: int, processes: int) -> EpisodeDataset:
    """Record the episodes of a condition and draw their frames, or go on with that."""
    at = interrupted(folder)
    count = scale.episodes(motion.minutes)
    if at in ("nothing", "episodes") and motion.fault == "unplugged":
        shutil.rmtree(folder, ignore_errors=True)  # of seconds of physics, none needs to be kept
        save_episodes(_unplugged(count, scale.length, seed), folder, test_share=0.0, seed=seed, source=UNPLUGGED)
    elif at in ("nothing", "episodes"):
        noise = motion.noise or 0.0
        config = EpisodeConfig(count, scale.length, test_share=0.0, noise=noise)
        policy, source = (None, None) if motion.noise is None else explorer(POLICY, config)
        record_episodes(policy, folder, config, seed=seed, source=source, resume=at == "episodes")
    if at == "frames" or not EpisodeDataset(folder).manifest["frames"]:
        draw_frames(folder, seed=seed, nuisances=SCENE, processes=processes, resume=at == "frames")
    return EpisodeDataset(folder)


def _unplugged(count: int, steps: int, seed: int) -> Trajectories:
    """Random torques of both joints as recorded, of which the wrist's never reach its motor."""
    run = rollout_states(None, count, seed, steps=steps)
    starts, told = np.stack([q[0] for q in run.info["qpos"]]), np.stack(run.actions)
    qpos, qvel, _ = simulate(starts, steps, lambda t, *_: told[:, t] * [1.0, 0.0])
    return replace(run, info={**run.info, "qpos": list(qpos), "qvel": list(qvel)})


def _views(data: EpisodeDataset, motion: Motion, scale: MotionScale, seed: int) -> tuple[StridedPairs, Any]:
    """What the objective sees, and the objective. Raises InvalidInput where it refuses the data."""
    if motion.objective == "lejepa":
        return StridedPairs(data, scale.stride), LeJEPA(slices=64)
    views, space = Windows(data, motion.window(scale)), LINES if motion.fault == "lines" else ARM
    if motion.fault == "shuffled":
        views.features = np.random.default_rng([seed, 9]).permutation(views.features)
    symmetries = ("mirror", "turns")
    return views, Excitation(views.window, space.kinds, symmetries=symmetries, least=scale.least)


def _truth(views: Windows, data: EpisodeDataset, scale: MotionScale, seed: int) -> tuple[float, ...]:
    """Shares of the true angles' displacements that the actions explain on the episodes that training holds out."""
    paths = data.load("train").info["qpos"]
    before = np.cumsum([0, *(shard["episodes"] for shard in data.shards)])
    held_out, kept = views.split(scale.net.validation, np.random.default_rng([seed, 0]))
    index = np.concatenate([kept, held_out])
    shard, episode, step = views.places[index].T
    pairs = zip(before[shard] + episode, step, strict=True)
    moved = torch.from_numpy(np.stack([paths[k][t + views.window] - paths[k][t] for k, t in pairs]))
    actions = torch.from_numpy(views.features[index])
    if views.controls is not None:
        known = torch.from_numpy(views.controls[index])
        moved, actions = (x - predicted(x, known, fitted=len(kept)) for x in (moved, actions))
    guess = predicted(moved, actions, fitted=len(kept))
    return tuple(shares_of(moved[len(kept) :], guess[len(kept) :]).flip(0).tolist())


def _encoder(
    folder: Path, views: StridedPairs, objective: Any, scale: MotionScale, seed: int, command: str, watch: Any
) -> PixelEncoder:
    """Train an encoder, or load it. Raises EncoderCollapsed."""
    if not (folder / "encoder.json").exists():
        config = replace(scale.net, objective=objective, seed=seed)
        kept = views.split(config.validation, np.random.default_rng([seed, 0]))[1]
        config = replace(config, epochs=scale.steps / max(1, len(kept) // config.batch))
        resume = (folder / "checkpoint.json").exists()
        pretrain(views, folder, config, resume=resume, command=command, progress=watch)
    encoder = load_encoder(folder)
    if encoder.card["data"]["sha256"] != views.manifest_sha256:
        raise BadFile(folder, "was trained on other data than stand beside it; delete the folder and start again")
    return encoder


class Judge:
    """Poses, goals and baselines, the same for every encoder."""

    def __init__(self, scale: MotionScale, seed: int) -> None:
        self.scale, self.seed = scale, seed
        rng = np.random.default_rng([seed, 7])
        limits = np.array([np.pi, WRIST_LIMIT])
        self.uniform = rng.uniform(-limits, limits, (scale.poses, 2))
        self.normal = rng.standard_normal((2 * scale.poses, 2))
        self.frames = [
            _draw(angles, target_spheres(len(angles), seed, "hidden")) for angles in (self.uniform, self.normal)
        ]
        self.tasks = sample_tasks(scale.plans, seed + 100, "reset")
        world = {**LOOK, "success": "tip"}
        self._baselines: dict[str, ControlResult] = evaluate_baselines(self.tasks, seed + 100, **world)

    def encoder(self, encoder: PixelEncoder) -> dict[str, Any]:
        """`r2` and `error` of a `MotionResult`."""
        uniform, normal = (encode(encoder, frames) for frames in self.frames)
        space, half = space_of(encoder), self.scale.poses
        error = affine_error(uniform, self.uniform, space, ARM)
        charted = space.chart(normal)
        fit = label_fit(charted[:half], self.normal[:half], charted[half:], self.normal[half:], "wrapped")
        return {"r2": tuple(map(plain, fit.per_joint)), "error": tuple(map(plain, error.joints))}

    def agent(self, encoder: PixelEncoder, folder: Path, name: str) -> dict[str, Any]:
        """`control` of a `MotionResult`: dynamics are fitted to the encoder's own training episodes."""
        fitted = fit_agent(encoder, recorded(folder, self.scale.fit_episodes).data, FitConfig(**LOOK))
        spheres = target_spheres(self.scale.plans, self.seed, "hidden")
        run = rollout_goals(fitted.agent, self.tasks, spheres, _draw)
        found: dict[str, Any] = plain(summarise(name, measure([run]), self._baselines[REFERENCE]))
        return found

    def baselines(self) -> tuple[dict[str, Any], ...]:
        """Random torques and standing still."""
        reference = self._baselines[REFERENCE]
        return tuple(plain(summarise(name, self._baselines[name], reference)) for name in (RANDOM, STILL))


def _draw(angles: Floats, targets: Floats) -> Frames:
    """Frames of the easy scene."""
    return render_frames(angles, targets, LOOK["profile"])
