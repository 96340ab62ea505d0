"""Stable-Baselines3's SAC: a resumable training run that saves the actor alone, as `load_policy` reads it.

SB3's own files hold pickles, which run code when they are read. A run here keeps its state in safetensors. Only
`load_sb3_zip(..., trust=True)` reads a zip of SB3.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from worldplan.agents.actor import CARDS, ActorPolicy, flat_box, load_policy
from worldplan.agents.config import SACConfig
from worldplan.agents.sac_run import Row, Run, actor_tensors
from worldplan.data.files import atomic_write, held
from worldplan.errors import BadFile, InvalidInput
from worldplan.learning.checkpoints import PROGRESS, check_start, delete_checkpoint

_CURVE = "learning_curve.jsonl"
AGREEMENT = 1e-4  # of the actions' range: float32 through a few layers, and the slope of tanh


def train_sac(
    make_env: Callable[[], gym.Env[Any, Any]],
    folder: Path | str,
    config: SACConfig | None = None,
    *,
    resume: bool = False,
    command: str = "",
    progress: Callable[[int, int], object] = lambda done, total: None,
    report: Callable[[Row], object] = lambda row: None,
) -> Path:
    """Train a policy with SB3's SAC, save the best actor to `folder` as `load_policy` reads it, and return the folder.

    Training goes in rounds of `evaluate_every` steps. Each starts from fresh episodes and its own seed. Each ends with
    an evaluation (deterministic actions, always the same episodes) and a checkpoint. So a resumed run ends with the
    bytes of one that was never interrupted. The best actor so far is in the folder at any time.

    Args:
        make_env: builds an environment with flat observations and bounded actions.
        folder: receives `policy.json`, `policy.safetensors`, `learning_curve.jsonl`, `tb/` (TensorBoard), checkpoints.
        config: None for the defaults.
        resume: continue from the folder's checkpoint, or start without one. `steps` and `stop_at` may have changed.
        command: provenance, stored in the card; a resumed run keeps its first one.
        progress: called with the steps done and their total.
        report: receives a row per evaluation.

    Raises:
        BadFile: a checkpoint of another configuration or environment, a finished run in the way, or another process
            that writes there.
        InvalidInput: an environment with other observations or actions.
    """
    config, folder = config or SACConfig(), Path(folder)
    with held(folder):
        # An unfinished run keeps its best policy in the folder; that of a finished one has been tested.
        finished = (folder / CARDS.card).exists() and "test" in CARDS.read(folder)
        begun = check_start(folder, "policy", finished, resume)
        with _own_randomness():
            _train(Run(make_env, config, folder, command), begun, progress, report)
        delete_checkpoint(folder)
    return folder


def _train(run: Run, begun: bool, progress: Callable[[int, int], object], report: Callable[[Row], object]) -> None:
    """Rounds of training and evaluation until the end; the best policy is tested and saved."""
    config, folder = run.config, run.folder
    try:
        curve = run.restore() if begun else []
        _write_curve(folder, curve)
        while run.steps < config.steps and not _good_enough(curve, config):
            row = run.round(lambda done: progress(done, config.steps))
            returns = [r["return"] for r in curve]
            curve.append(row)
            if row["return"] > max(returns, default=-np.inf):
                run.actor(curve).save(folder)
            _write_curve(folder, curve)
            run.checkpoint(curve)
            report(row)
        if not curve:
            raise BadFile(folder / PROGRESS, "holds no evaluation; start a new folder")
        best = load_policy(folder)
        best.card |= {"learning_curve": curve, "test": run.test(best)}
        best.save(folder)
    finally:
        run.close()


def load_sb3_zip(path: Path | str, *, trust: bool = False) -> ActorPolicy:
    """The actor in a zip that SB3's `SAC.save` wrote.

    Args:
        path: the zip.
        trust: such a zip holds pickles, which can run any code: pass True only for one that you made or trust as much.

    What `ActorPolicy` computes is held against SB3's own `predict` on random observations. So no policy is played as
    another one: one with its own features or activations, or with state-dependent exploration, is refused.

    Raises:
        InvalidInput: `trust` is not True, the policy takes images or dictionaries, or `ActorPolicy` cannot play it.
        BadFile: no such file, or no SAC of SB3.
    """
    if trust is not True:
        raise InvalidInput(f"{path}: SB3's zips hold pickles, which can run any code; pass trust=True if you made it")
    if not isinstance(path, str | Path):
        raise InvalidInput(f"name a zip that SAC.save wrote, got {path!r}")
    if not os.path.isfile(path):  # unlike `Path.is_file`, also for names that are too long
        raise BadFile(path, "no such file")
    from stable_baselines3 import SAC
    from stable_baselines3.common.torch_layers import FlattenExtractor

    try:
        model = SAC.load(path, device="cpu")
        spaces, actor = (model.observation_space, model.action_space), model.actor
        layers = {type(layer) for layer in actor.latent_pi}
    except Exception as error:  # SB3 raises many unrelated types over a foreign zip
        raise BadFile(path, f"holds no SAC of Stable-Baselines3 ({error})") from error
    flat_box(spaces[0])
    odd = {type(actor.features_extractor).__name__: type(actor.features_extractor) is not FlattenExtractor}
    odd |= {kind.__name__: kind not in (torch.nn.Linear, torch.nn.ReLU) for kind in layers}
    odd |= {"use_sde": bool(model.use_sde)}
    if any(odd.values()):
        raise InvalidInput(
            f"{path}: only SAC actors of linear layers and ReLU can be played, this one has "
            f"{', '.join(name for name, is_odd in odd.items() if is_odd)}; use SB3's own model as the agent"
        )
    policy = ActorPolicy(actor_tensors(model), *spaces, {"source": "Stable-Baselines3 zip"})
    space = policy.observation_space
    seen = np.random.default_rng(0).standard_normal((64, *space.shape)).clip(space.low, space.high).astype(np.float32)
    span = (policy.action_space.high - policy.action_space.low).max()
    gap = float(np.abs(policy.predict(seen)[0] - model.predict(seen, deterministic=True)[0]).max() / span)
    if not gap <= AGREEMENT:
        raise InvalidInput(f"{path}: this policy acts otherwise than `ActorPolicy` would ({gap:.2g} of its range)")
    return policy


def _good_enough(curve: list[Row], config: SACConfig) -> bool:
    return config.stop_at is not None and bool(curve) and curve[-1]["return"] >= config.stop_at


def _write_curve(folder: Path, curve: list[Row]) -> None:
    with atomic_write(folder / _CURVE) as stream:
        stream.writelines((json.dumps(row) + "\n").encode() for row in curve)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Restore all global generators, because SB3 seeds and draws from them."""
    legacy, plain = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(plain)
