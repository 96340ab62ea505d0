"""A world without a camera, its perfect encoder, and agents in it: for what several tests need."""

import gymnasium as gym
import numpy as np
import torch

from worldplan.agents.planning_agent import PlanningAgent
from worldplan.learning.encoder import PixelEncoder
from worldplan.learning.network import ConvEncoder
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics

COST = QuadraticCost.goal_reaching(2, 0.1)


def to_frames(angles):
    """Images whose first bytes are two angles: a world without a camera."""
    angles = np.atleast_2d(np.asarray(angles, dtype=np.float64))
    frames = np.zeros((len(angles), 64 * 64 * 3), dtype=np.uint8)
    frames[:, :16] = np.ascontiguousarray(angles).view(np.uint8)
    return frames.reshape(-1, 64, 64, 3)


class ReadAngles:
    """The perfect encoder of `to_frames`; remembers how many frames each call brought."""

    latent_dim = 2

    def __init__(self):
        self.calls = []

    def __call__(self, frames):
        self.calls.append(len(frames))
        return np.ascontiguousarray(frames.reshape(len(frames), -1)[:, :16]).view(np.float64)


class AngleFrames(gym.ObservationWrapper):
    """ReacherGoal seen through `to_frames`."""

    def observation(self, observation):
        info = self.unwrapped.info()
        return {"observation": to_frames(info["qpos"])[0], "desired_goal": to_frames(info["goal_qpos"])[0]}


def joints(noise=True):
    """Two like joints with friction; in this world a goal is a rest point."""
    A = np.kron([[1.0, 0.8], [0.0, 0.8]], np.eye(2))
    B = np.tile([[0.05, 0.01], [0.0, 0.04]], (2, 1))
    covariances = (np.kron(np.ones((2, 2)), 1e-4 * np.eye(2)), 1e-3 * np.eye(2)) if noise else (None, None)
    return LinearDynamics(A, B, np.zeros(0), *covariances)


def agent_on_angles(planner="lqr", **options):
    return PlanningAgent(ReadAngles(), joints(), COST, planner, **options)


def observe(angles, goals):
    """One observation of one pose, or N of N."""
    single = np.ndim(angles) == 1
    frames, goals = to_frames(angles), to_frames(goals)
    return {"observation": frames[0] if single else frames, "desired_goal": goals[0] if single else goals}


def walk(N, steps=4, seed=0):
    """Poses (steps, N, 2) and goals (N, 2)."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((steps, N, 2)).cumsum(axis=0), 0.3 * rng.standard_normal((N, 2))


def small_encoder(seed=0, latent_dim=2):
    torch.manual_seed(seed)
    return PixelEncoder(ConvEncoder(latent_dim=latent_dim, width=2, hidden=8), {"made": "at random"})
