"""What ships under the name `reacher` does what its card says, on real frames."""

from __future__ import annotations

import shlex
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import torch

from worldplan.__main__ import main
from worldplan.agents import known_agents, load_agent
from worldplan.data.pairs import PairDataset
from worldplan.envs.fingerprint import check_fingerprint
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.envs.tasks import sample_tasks
from worldplan.envs.world.registry import find_world
from worldplan.eval.control.baselines import AGENT, STILL, StandStill
from worldplan.eval.control.episodes import evaluate_control
from worldplan.eval.control.in_world import WorldPlanConfig, plan_in_world
from worldplan.eval.identifiability.identify import gaussian_views
from worldplan.eval.identifiability.regression import LabelFit, fit_affine, label_fit
from worldplan.learning.encoder import PixelEncoder, known_encoders, load_encoder
from worldplan.learning.network import ConvEncoder
from worldplan.planning.space import LatentSpace


@pytest.fixture(scope="module")
def encoder() -> PixelEncoder:
    return load_encoder("reacher")


def untrained() -> PixelEncoder:
    torch.manual_seed(0)
    return PixelEncoder(ConvEncoder(), {})


def halves_fit(latents: np.ndarray, angles: np.ndarray) -> LabelFit:
    """Linear regressions fitted on the first half of the rows and judged on the second."""
    cut = len(latents) // 2
    return label_fit(latents[:cut], angles[:cut], latents[cut:], angles[cut:], "unwrapped", resamples=2)


def gaussian_r2(encoder: PixelEncoder, count: int, seed: int = 0) -> float:
    """The lower of R2 both ways, angles N(0, .7^2), target anywhere, stock frames."""
    z, frames = gaussian_views(count // 2, seed=seed)
    fit = halves_fit(encoder(frames.reshape(-1, 64, 64, 3)), 0.7 * z.reshape(-1, 2))
    return min(fit.latent_to_state.value, fit.state_to_latent.value)


def test_the_names_are_known() -> None:
    assert "reacher" in known_encoders()
    assert {"reacher", "reacher-lejepa"} <= set(known_agents())


def test_the_zoo_is_small() -> None:
    zoo = Path(__file__).parents[2] / "worldplan/zoo"
    assert sum(f.stat().st_size for f in zoo.rglob("*") if f.is_file()) < 8e6
    assert sum(f.stat().st_size for f in (zoo / "encoders/reacher").iterdir()) < 4e6


@pytest.fixture(scope="module")
def poses() -> tuple[np.ndarray, np.ndarray]:
    angles = 0.7 * np.random.default_rng(5).standard_normal((400, 2))
    return angles, render_frames(angles, None, "fast")


HOME = known_encoders("reacher")
ELSEWHERE = sorted(set(known_encoders()) - set(HOME))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_agents_of_other_worlds_reach_goals_there(name: str) -> None:
    """Each in its own world, beside one that stands still; the whole tables are in benchmarks/results/worlds."""
    agent = load_agent(name)
    assert agent.world is not None
    world = find_world(agent.world.name)
    steps = round(4.0 / world.card.step_seconds)
    report = plan_in_world(agent, world, WorldPlanConfig(episodes=4 if steps <= 200 else 2, steps=steps))
    rates = {row.name: row.reached for row in report.rows}
    assert rates[AGENT] is not None
    assert rates[STILL] is not None
    assert rates[AGENT].value >= 0.75
    assert rates[STILL].value <= 0.25
    card = agent.encoder.card
    assert card["command"].startswith("worldplan pretrain ")
    assert card["data"]["runs"][0]["policy"] is None  # random motion alone


@pytest.mark.parametrize("name", HOME)
def test_every_encoder_of_the_zoo_sees_the_arm_and_says_how_it_was_made(
    name: str, poses: tuple[np.ndarray, np.ndarray]
) -> None:
    encoder = load_encoder(name)
    angles, frames = poses
    latents = encoder(frames)
    assert latents.shape == (400, encoder.latent_dim)
    assert encoder.card["command"].startswith("worldplan pretrain ")
    # How much of the angles cubic polynomials of the latent tell, out of sample: also of encoders that bend them.
    powers = [latents[:, :1] ** i * latents[:, 1:] ** j for i in range(4) for j in range(4 - i)]
    fit = halves_fit(np.concatenate(powers[1:], axis=1), angles)
    told = [joint.value for joint in fit.per_joint]
    assert latents.std(axis=0).min() > 0.05
    # What trajectories teach is a finding (docs/encoders.md), not a promise.
    assert max(told) > 0.5 or encoder.card["data"]["kind"] == "episodes"


def test_the_renderer_here_draws_what_the_encoder_was_trained_on(encoder: PixelEncoder) -> None:
    assert check_fingerprint(encoder.card["data"]["render"], "encoder 'reacher'")


def test_the_latent_is_the_state_up_to_a_linear_map(encoder: PixelEncoder) -> None:
    assert gaussian_r2(encoder, count=600, seed=9) > 0.97
    assert gaussian_r2(untrained(), count=600, seed=9) < 0.9


def test_the_latent_ignores_the_target(encoder: PixelEncoder) -> None:
    rng = np.random.default_rng(3)
    angles = rng.standard_normal((200, 2)).clip(-1.5, 1.5)
    one, other = (encoder(render_frames(angles, sample_targets(200, rng))) for _ in range(2))
    moved = np.square(one - other).sum(axis=1).mean() / one.var(axis=0).sum()
    assert moved < 0.02
    one, other = (untrained()(render_frames(angles, sample_targets(200, rng))) for _ in range(2))
    assert np.square(one - other).sum(axis=1).mean() / one.var(axis=0).sum() > 0.1


@pytest.mark.parametrize(
    ("name", "distribution"), [("reacher", "normal"), ("reacher", "reset"), ("reacher-lejepa", "normal")]
)
def test_they_reach_goals_from_stock_pixels(name: str, distribution: str) -> None:
    pairs = sample_tasks(8, seed=4, distribution=distribution)
    assert evaluate_control(load_agent(name), pairs).success.sum() >= 7
    assert evaluate_control(StandStill(), pairs, pixels=False).success.sum() <= 1


def test_the_encoder_from_trajectories_tells_both_joints_all_the_way_round() -> None:
    """Radians on the circle without a label: slope 1 up to sign, over whole turns, with the target anywhere."""
    encoder, rng = load_encoder("reacher-excitation"), np.random.default_rng(2)
    angles = rng.uniform([-np.pi, -2.7], [np.pi, 2.7], (400, 2))
    latents = encoder(render_frames(angles, sample_targets(400, rng)))
    assert encoder.space == LatentSpace("circle", "line")
    wrist = fit_affine(latents[:, 1:], angles[:, 1:])
    assert np.sqrt(np.square(wrist(latents[:, 1:]) - angles[:, 1:]).mean()) < 0.06
    left = np.exp(1j * (latents[:, 0] - np.sign(_winding(latents, angles)) * angles[:, 0]))
    rest = np.angle(left / left.mean())[:, None]
    assert abs(fit_affine(angles[:, 1:], rest)(np.eye(1)) - fit_affine(angles[:, 1:], rest)(0 * np.eye(1))) < 0.2
    assert (rest - fit_affine(angles[:, 1:], rest)(angles[:, 1:])).std() < 0.05  # a multiple of the wrist may be added


def _winding(latents: np.ndarray, angles: np.ndarray) -> float:
    """Positive if the latent circle turns as the shoulder does."""
    return float(abs(np.exp(1j * (latents - angles)[:, 0]).mean()) - abs(np.exp(1j * (latents + angles)[:, 0]).mean()))


@pytest.mark.slow
def test_the_cards_commands_work_at_a_fiftieth_of_the_scale(encoder: PixelEncoder, tmp_path: Path) -> None:
    collect, train = (shlex.split(c)[1:] for c in (encoder.card["data"]["command"], encoder.card["command"]))
    pairs = int(collect[collect.index("--pairs") + 1]) // 50
    data, out = tmp_path / "data", tmp_path / "encoder"
    assert main(_with(collect, {"--pairs": pairs, "--out": data})) == 0
    train[train.index(collect[collect.index("--out") + 1])] = str(data)
    assert len(PairDataset(data)) == pairs
    options = {"--out": out, "--validation": 256, "--bfloat16": _bfloat16_is_fast()}
    assert main(_with(train, options)) == 0
    assert gaussian_r2(load_encoder(out), count=1000) > 0.35  # .54 here; an untrained network has .05


def _bfloat16_is_fast() -> bool:
    """A timed trial: where the CPU lacks bfloat16 instructions the library emulates them, ten times slower."""
    layer, frames, seconds = torch.nn.Conv2d(16, 32, 4, stride=2), torch.randn(16, 16, 32, 32), {True: [], False: []}
    for _ in range(5):
        for chosen, times in seconds.items():
            begin = perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=chosen):
                layer(frames).float().sum().backward()
            times.append(perf_counter() - begin)
    return min(seconds[True]) < min(seconds[False])


def _with(arguments: list[str], options: dict[str, object]) -> list[str]:
    arguments = list(arguments)
    for name, value in options.items():
        if name in arguments:
            arguments[arguments.index(name) + 1] = str(value)
        else:
            arguments += [name, str(value)]
    return arguments
