"""Environments of users: a disc on a table that works, and what may be wrong with one."""

import gymnasium as gym
import numpy as np


class Slide(gym.Env):
    """A disc on a table, pushed along both axes; it observes its own frames."""

    action_space = gym.spaces.Box(-1.0, 2.0, (2,), np.float64)
    observation_space = gym.spaces.Box(0, 255, (48, 48, 3), np.uint8)
    metadata = {"render_fps": 20}  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.speed, self.steps = self.np_random.uniform(-0.5, 0.5, 2), np.zeros(2), 0
        return self.frame(), self.info()

    def step(self, action):
        self.speed = 0.8 * self.speed + 0.02 * np.asarray(action)
        self.place, self.steps = (self.place + self.speed).clip(-0.8, 0.8), self.steps + 1
        return self.frame(), 1.0, self.over(), False, self.info()

    def info(self):
        return {"place": self.place.copy()}

    def over(self):
        return False

    def frame(self):
        y, x = np.mgrid[0:48, 0:48] / 24.0 - 1.0
        inside = (24.0 * (0.25 - np.hypot(x - self.place[0], y - self.place[1])) + 0.5).clip(0.0, 1.0)
        return (230 - inside[..., None] * np.array([30, 170, 200])).astype(np.uint8)


class Short(Slide):
    """It ends by itself after five steps."""

    def over(self):
        return self.steps == 5


class Blind(Slide):
    """Its camera looks elsewhere."""

    def frame(self):
        return np.full((48, 48, 3), 90, np.uint8)


class Forgetful(Slide):
    """Its reset ignores the seed."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=int(np.random.default_rng().integers(2**31)))


class Unpaid(Slide):
    """Its rewards are not numbers."""

    def step(self, action):
        frame, _, *rest = super().step(action)
        return frame, float("nan"), *rest


class Growing(Slide):
    """Its frames change their size within an episode."""

    def frame(self):
        return np.zeros((48 + self.steps, 48, 3), np.uint8)


class Bright(Slide):
    """Its frames are no whole numbers."""

    def frame(self):
        return super().frame() / 255.0


class Fickle(Slide):
    """It tells its speed at some steps only."""

    def info(self):
        return {"place": self.place.copy()} | ({"speed": self.speed.copy()} if self.steps < 3 else {})


class Buttons(Slide):
    action_space = gym.spaces.Discrete(3)


class Parts(Slide):
    action_space = gym.spaces.Dict({"left": gym.spaces.Box(-1.0, 1.0, (1,)), "right": gym.spaces.Box(-1.0, 1.0, (1,))})


class Free(Slide):
    action_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)


class Unseen(Slide):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float64)


def number():
    return 3


def needy(size):
    return Slide()
