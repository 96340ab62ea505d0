"""One training run of SB3's SAC: its configuration, rounds, evaluations and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from worldplan.agents.actor import ActorPolicy, flat_box
from worldplan.agents.config import SACConfig
from worldplan.data.files import read_json, to_json
from worldplan.errors import BadFile
from worldplan.learning.checkpoints import (
    PROGRESS,
    changed,
    load_state,
    read_checkpoint,
    state_tensors,
    write_checkpoint,
)

_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_FREE = ("steps", "stop_at")  # may differ when a run is resumed

Row = dict[str, float]


LONGEST = 100_000  # steps of an episode that nothing else ends


class Run:
    """State of one training run: SB3's model, its environments, and the number of steps made.

    `folder` receives checkpoints and the log for TensorBoard; `command` is provenance.
    """

    def __init__(
        self, make_env: Callable[[], gym.Env[Any, Any]], config: SACConfig, folder: Path, command: str
    ) -> None:
        from stable_baselines3 import SAC
        from stable_baselines3.common.logger import configure
        from stable_baselines3.common.monitor import Monitor
        from stable_baselines3.common.vec_env import DummyVecEnv

        self.config, self.folder, self.command, self._make_env = config, folder, command, make_env

        def make() -> gym.Env[Any, Any]:
            limit = config.episode_steps
            return Monitor(make_env() if limit is None else gym.wrappers.TimeLimit(make_env(), limit))

        self.judges = self._judges(config.evaluations)
        self.environment = _describe(self.judges[0])
        flat_box(self.judges[0].observation_space)
        flat_box(self.judges[0].action_space, bounded=True)
        self.envs = DummyVecEnv([make] * config.copies)
        self.model = SAC(
            "MlpPolicy",
            self.envs,
            learning_rate=config.learning_rate,
            buffer_size=config.buffer,
            learning_starts=config.warmup,
            batch_size=config.batch,
            tau=config.tau,
            gamma=config.gamma,
            train_freq=1,
            gradient_steps=config.updates,
            ent_coef=f"auto_{config.temperature}",
            target_entropy=config.entropy,
            policy_kwargs={"net_arch": list(config.hidden), "optimizer_kwargs": {"fused": True}},
            seed=self._seed(0),
            device="cpu",  # such small networks are no faster on a GPU
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.model.set_logger(configure(str(folder / "tb"), ["tensorboard"]))

    def _judges(self, count: int) -> list[gym.Env[Any, Any]]:
        """Environments for evaluations, with a time limit each."""
        return [_limited(self._make_env(), self.config.episode_steps or LONGEST) for _ in range(count)]

    @property
    def steps(self) -> int:
        """Environment steps made."""
        return self.model.num_timesteps

    def _seed(self, *path: int) -> int:
        return int(np.random.SeedSequence([self.config.seed, *path]).generate_state(1)[0])

    def round(self, progress: Callable[[int], object]) -> Row:
        """Train for `evaluate_every` steps, then evaluate."""
        from stable_baselines3.common.callbacks import ConvertCallback

        def tell(known: dict[str, Any], _: Any) -> bool:
            progress(known["self"].num_timesteps)
            return True

        self.model.set_env(self.envs, force_reset=True)
        self.model.set_random_seed(self._seed(1, self.steps) % 2**31)
        self.model.learn(self.config.evaluate_every, ConvertCallback(tell), reset_num_timesteps=False)
        returns = episode_returns(self.actor([]), self.judges, self._seed(2))
        row = {"step": self.steps, **_summary(returns)}
        for name in ("return", "std"):
            self.model.logger.record(f"evaluation/{name}", row[name])
        self.model.logger.dump(self.steps)
        return row

    def test(self, policy: ActorPolicy) -> dict[str, Any]:
        """Returns of the saved policy on episodes that no choice depended on."""
        envs = self._judges(self.config.tests)
        returns = episode_returns(policy, envs, self._seed(3))
        for env in envs:
            env.close()
        return {"episodes": len(returns), **_summary(returns), "returns": returns.tolist()}

    def actor(self, curve: list[Row]) -> ActorPolicy:
        """The policy as it is now, with a card."""
        packages = ("torch", "stable-baselines3", "gymnasium", "mujoco", "dm_control")
        card = {
            "environment": self.environment,
            "command": self.command,
            "config": asdict(self.config),
            "versions": {name: version(name) for name in packages},
            "chosen_step": self.steps,
            "learning_curve": list(curve),
        }
        return ActorPolicy(actor_tensors(self.model), self.model.observation_space, self.model.action_space, card)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        model = self.model
        assert model.ent_coef_optimizer is not None
        return {
            "optimizer.actor.": model.actor.optimizer,
            "optimizer.critic.": model.critic.optimizer,
            "optimizer.temperature.": model.ent_coef_optimizer,
        }

    def checkpoint(self, curve: list[Row]) -> None:
        """Write networks, optimisers, replay buffer and counters in one file; the JSON beside it says whose."""
        model, memory = self.model, self.model.replay_buffer
        assert memory is not None and model.log_ent_coef is not None
        filled = memory.buffer_size if memory.full else memory.pos
        tensors = {**state_tensors(model.policy, self._optimizers()), "log_temperature": model.log_ent_coef}
        tensors |= {f"buffer.{name}": torch.from_numpy(getattr(memory, name)[:filled]) for name in _BUFFER}
        counters = {"steps": self.steps, "updates": model._n_updates, "pos": memory.pos, "full": memory.full}
        text = {"counters": json.dumps(counters), "curve": json.dumps(curve)}
        progress = {"steps": self.steps, "command": self.command, **self._identity()}
        write_checkpoint(self.folder, tensors, text, progress)

    def _identity(self) -> dict[str, Any]:
        config = {name: value for name, value in asdict(self.config).items() if name not in _FREE}
        return json.loads(to_json({"config": config, "environment": self.environment}))  # type: ignore[no-any-return]

    def restore(self) -> list[Row]:
        """Load the folder's checkpoint and return the learning curve up to it."""
        path = self.folder / PROGRESS
        saved = read_json(path)
        if others := changed(saved, self._identity()):
            raise BadFile(
                path,
                f"belongs to another configuration or environment ({others}); give its options, or start a new folder",
            )
        self.command = str(saved.get("command", self.command))
        model, memory = self.model, self.model.replay_buffer
        assert memory is not None and model.log_ent_coef is not None
        with read_checkpoint(self.folder) as (tensors, text):
            counters, curve = (json.loads(text[name]) for name in ("counters", "curve"))
            load_state(model.policy, self._optimizers(), tensors)
            with torch.no_grad():
                model.log_ent_coef.copy_(tensors["log_temperature"])
            for name in _BUFFER:
                rows = tensors[f"buffer.{name}"].numpy()
                getattr(memory, name)[: len(rows)] = rows
            memory.pos, memory.full = int(counters["pos"]), bool(counters["full"])
            model.num_timesteps, model._n_updates = int(counters["steps"]), int(counters["updates"])
        return curve  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close environments and log."""
        self.model.logger.close()
        self.envs.close()
        for env in self.judges:
            env.close()


def episode_returns(policy: Any, envs: Sequence[gym.Env[Any, Any]], seed: int | Sequence[int]) -> NDArray[np.float64]:
    """Return of one whole episode in each environment, with deterministic actions; all in parallel, for speed."""
    seeds = np.random.SeedSequence(seed).generate_state(len(envs))
    observations = np.stack([env.reset(seed=int(s))[0] for env, s in zip(envs, seeds, strict=True)])
    totals, running = np.zeros(len(envs)), np.ones(len(envs), dtype=bool)
    while running.any():
        actions, _ = policy.predict(observations, deterministic=True)
        for i in np.flatnonzero(running).tolist():
            observations[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
            totals[i] += float(reward)
            running[i] = not (terminated or truncated)
    return totals


def actor_tensors(model: Any) -> dict[str, NDArray[np.float32]]:
    """Weights of an SB3 SAC's actor, under the names of `ActorPolicy`."""
    heads = {"mu": "mean", "log_std": "log_std"}
    tensors = {}
    for name, value in model.actor.state_dict().items():
        layer, *middle, kind = name.split(".")
        if layer == "latent_pi":  # linear layers and ReLUs in turn
            layer = f"hidden.{int(middle[0]) // 2}"
        tensors[f"{heads.get(layer, layer)}.{kind}"] = value.detach().cpu().numpy().copy()
    return tensors


def _limited(env: gym.Env[Any, Any], steps: int) -> gym.Env[Any, Any]:
    """The environment with a time limit, if it shows none: an evaluation would never end without one."""
    wrapper: Any = env
    while isinstance(wrapper, gym.Wrapper):
        if isinstance(wrapper, gym.wrappers.TimeLimit):
            return env
        wrapper = wrapper.env
    own = getattr(wrapper, "episode_steps", None)  # ours, where `gymnasium.make` did not make them
    return env if own is not None else gym.wrappers.TimeLimit(env, steps)


def _describe(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Name and options of an environment, as JSON values; code and objects among them by name."""
    spec = env.spec
    if spec is None:
        return {"id": type(env.unwrapped).__name__}
    limit = {} if spec.max_episode_steps is None else {"max_episode_steps": spec.max_episode_steps}
    options = {str(key): _named(value) for key, value in spec.kwargs.items() if value is not None}
    return {"id": spec.id, **options, **limit}


def _named(value: Any) -> Any:
    try:
        return json.loads(to_json(value))
    except (TypeError, ValueError):
        return getattr(value, "__qualname__", type(value).__qualname__)


def _summary(returns: NDArray[np.float64]) -> Row:
    return {"return": float(returns.mean()), "std": float(returns.std()), "lowest": float(returns.min())}
