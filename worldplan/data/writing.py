"""What a shard of episodes holds, and what the manifest says of it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.data.shards import ShardWriter
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import REACHER, WorldCard


def episode_arrays(data: Trajectories, world: WorldCard = REACHER) -> dict[str, NDArray[np.float64]]:
    """Arrays of a shard of episodes of one length, but for frames."""
    rows: dict[str, Any] = {**data.info, "actions": data.actions, "rewards": data.rewards}
    names = (*world.states, "actions", "rewards")
    arrays = {name: np.stack([np.asarray(r, dtype=np.float64) for r in rows[name]]) for name in names}
    if "expected" in rows:
        arrays["expected"] = np.stack([np.asarray(r[:-1], dtype=np.float64) for r in rows["expected"]])
    return arrays | {name: np.stack([t[0] for t in data.info[name]]).astype(np.float64) for name in world.fixed}


def episode_facts(
    data: Trajectories, test: NDArray[np.bool_], random: NDArray[np.bool_] | None, world: WorldCard = REACHER
) -> dict[str, Any]:
    """What the manifest says of a shard."""
    actions = np.stack(data.actions)
    centred = actions - actions.mean(axis=(0, 1))
    power = np.square(centred).sum(axis=(0, 1))
    lagged = (centred[:, 1:] * centred[:, :-1]).sum(axis=(0, 1))
    facts = {
        "episodes": len(data),
        "steps": len(data.actions[0]),
        "test": test.tolist(),
        "random": None if random is None else random.tolist(),
        "returns": [float(np.sum(r)) for r in data.rewards],
        "action_autocorrelation": np.divide(lagged, power, where=power > 0, out=np.zeros_like(power)).tolist(),
    }
    return facts | (_angles(data) if world is REACHER else {})


def _angles(data: Trajectories) -> dict[str, Any]:
    angles = np.stack(data.info["qpos"])
    return {
        "shoulder_past_pi": float(np.mean([np.abs(q[:, 0]) > np.pi for q in data.info["qpos"]])),
        "angle_sums": [[float(np.sum(angles[..., j] ** p)) for j in range(2)] for p in (1, 2)],
    }


def finish_episodes(writer: ShardWriter, runs: list[dict[str, Any]], card: WorldCard = REACHER, **head: Any) -> None:
    """Write the manifest, with a summary of all episodes; `head` are entries beside the usual ones."""
    weights = np.array([s["episodes"] * (s["steps"] + 1) for s in writer.shards], dtype=np.float64)

    def mean(name: str) -> Any:
        return np.average([s[name] for s in writer.shards], axis=0, weights=weights).tolist()

    summary: dict[str, Any] = {
        "episodes": sum(s["episodes"] for s in writer.shards),
        "mean_return": float(np.mean(list(itertools.chain(*(s["returns"] for s in writer.shards))))),
        "action_autocorrelation": mean("action_autocorrelation"),
    }
    if card is REACHER:
        sums = np.sum([s["angle_sums"] for s in writer.shards], axis=0) / weights.sum()
        deviation = np.sqrt(np.maximum(sums[1] - sums[0] ** 2, 0.0)).tolist()
        summary |= {"shoulder_past_pi": mean("shoulder_past_pi"), "angle_deviation": deviation}
    writer.finish(kind="episodes", runs=runs, summary=summary, **{"frames": None, **head})
