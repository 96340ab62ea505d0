"""Frames of the Reacher: the stock look, in any order and any process, beside stock environments."""

import ctypes.util
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from worldplan.envs import rendering
from worldplan.envs.fingerprint import check_encoder, check_fingerprint, render_fingerprint
from worldplan.envs.rendering import PROFILES, frame_stream, render_frames, sample_targets, shared_renderer
from worldplan.errors import FingerprintMismatch, InvalidInput, RenderingUnavailable, UnknownName

POSES = np.array([[0.0, 0.0], [0.5, 1.0], [-2.0, 2.7], [3.1, -1.5], [1.7, -2.79]])
TARGETS = np.array([[0.1, 0.1, 0.05], [-0.15, 0.05, 0.015], [0.0, -0.2, 0.015], [0.06, 0.0, 0.05], [-0.1, -0.1, 0.0]])


@pytest.fixture(scope="module")
def stock():
    """`stock(qpos, target) -> frame` of an untouched `suite.load("reacher", "hard")`."""
    from dm_control import suite

    physics = suite.load("reacher", "hard", task_kwargs={"random": 0}).physics

    def frame(qpos, target):
        physics.named.model.geom_pos["target", :2] = target[:2]
        physics.named.model.geom_size["target", 0] = target[2]
        physics.data.qpos[:] = qpos
        physics.forward()
        return physics.render(64, 64, camera_id=0).copy()  # dm_control hands out its own buffer

    yield frame
    physics.free()


@pytest.fixture(scope="module")
def two_processes():
    with frame_stream(2) as draw:
        yield draw


def difference(a, b):
    return float(np.abs(a.astype(float) - b).mean())


# --- the look -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(4))
def test_dmc_frames_are_stock_frames_within_one_grey_level(stock, k):
    wanted = stock(POSES[k], TARGETS[k])
    render = shared_renderer().render
    frame = render(POSES[k], TARGETS[k])
    assert frame.shape == (64, 64, 3)
    assert frame.dtype == np.uint8
    assert difference(frame, wanted) < 1.0
    # negative controls: the other look; the same look with the arm a little off; the target elsewhere
    assert difference(render(POSES[k], TARGETS[k], "fast"), wanted) > 10.0
    for off in ([0.1, 0.0], [-0.1, 0.0], [0.0, 0.1], [0.0, -0.1]):
        assert difference(render(POSES[k] + off, TARGETS[k]), wanted) > difference(frame, wanted)
    assert difference(render(POSES[k], TARGETS[k] * (-1, -1, 1)), wanted) > difference(frame, wanted)


def test_a_frame_is_ours_to_keep():
    render = shared_renderer().render
    first = render(POSES[0])
    kept = first.copy()
    second = render(POSES[1])
    np.testing.assert_array_equal(first, kept)
    assert difference(first, second) > 1.0


def test_a_frame_depends_on_its_arguments_and_not_on_what_was_drawn_before():
    jobs = [(q, t, p) for q, t in zip(POSES, TARGETS, strict=True) for p in PROFILES]
    render = shared_renderer().render
    forward = [render(*job) for job in jobs]
    backward = [render(*job) for job in reversed(jobs)][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert len({frame.tobytes() for frame in forward}) == len(jobs)  # they are ten different frames


@pytest.mark.parametrize("profile", PROFILES)
def test_a_hidden_target_leaves_no_trace_of_its_place(profile):
    render = shared_renderer().render
    for qpos in POSES:
        nothing = render(qpos, None, profile)
        for place in ((0.1, 0.1), (-0.2, 0.0), (0.0, 0.0)):
            np.testing.assert_array_equal(render(qpos, np.array([*place, 0.0]), profile), nothing)
        assert difference(render(qpos, np.array([0.0, 0.19, 0.015]), profile), nothing) > 0.05


@pytest.mark.parametrize("profile", PROFILES)
def test_a_full_turn_of_the_shoulder_cannot_be_seen(profile):
    render = shared_renderer().render
    for qpos, target in zip(POSES, TARGETS, strict=True):
        for turns in (1, -1):
            turned = render(qpos + [2 * np.pi * turns, 0.0], target, profile)
            np.testing.assert_array_equal(turned, render(qpos, target, profile))
        assert difference(render(qpos + [np.pi, 0.0], target, profile), turned) > 1.0


BESIDE_STOCK = """
import numpy as np
from worldplan.envs.rendering import ReacherRenderer
from dm_control import suite
physics = suite.load("reacher", "easy", task_kwargs={"random": 0}).physics
def stock(q):
    physics.data.qpos[:] = q
    physics.forward()
    return physics.render(64, 64, camera_id=0).copy()
poses = np.array([[0.0, 0.0], [0.5, 1.0], [-2.0, 2.7]])
alone = [stock(q) for q in poses]
ours = ReacherRenderer()
first = [ours.render(q, np.array([.1, .1, .05]), p) for q, p in zip(poses, ("dmc", "fast", "dmc"))]
for round in range(2):
    for q, p, before, our in zip(poses, ("dmc", "fast", "dmc"), alone, first):
        assert (ours.render(q, np.array([.1, .1, .05]), p) == our).all(), "our frame changed beside stock"
        assert (stock(q) == before).all(), "the stock frame changed beside ours"
        assert (stock(q + .3) != before).any()
other = suite.load("cartpole", "balance").physics  # another scene of the user's
other.render(48, 48)
assert (stock(poses[0]) == alone[0]).all() and (ours.render(poses[2], np.array([.1, .1, .05])) == first[2]).all()
print("fine")
"""


COLLECTED_MEANWHILE = """
import gc, sys
from contextlib import nullcontext
import numpy as np
from worldplan.envs import rendering
rendering.select_backend()
from dm_control import suite
from dm_control.mujoco.engine import Camera
if sys.argv[1] == "unguarded":
    rendering.no_garbage_collection = nullcontext
pose = np.array([0.5, 1.0])
ours = rendering.ReacherRenderer()
alone = ours.render(pose)
ours.render(-pose)
draw = Camera._render_on_gl_thread
def collect_then_draw(*arguments, **keywords):
    if gc.isenabled():  # the worst moment for an automatic collection
        gc.collect()
    return draw(*arguments, **keywords)
stock = suite.load("reacher", "easy", task_kwargs={"random": 0})
stock.physics.render(64, 64, camera_id=0)
stock.itself = stock
del stock
Camera._render_on_gl_thread = collect_then_draw
frame = ours.render(pose)
assert gc.isenabled()
print("same" if (frame == alone).all() else "other")
"""


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_stock_environment_may_be_collected_while_we_draw():
    assert run(COLLECTED_MEANWHILE, "guarded").stdout == "same\n"
    unguarded = run(COLLECTED_MEANWHILE, "unguarded")  # negative control: an old frame, or a crash
    assert unguarded.returncode != 0 or unguarded.stdout == "other\n"


def test_stock_frames_stay_as_they_are_while_ours_are_drawn():
    """In a fresh process, so that the first stock frames are drawn before our renderer exists."""
    done = run(BESIDE_STOCK)
    assert done.stdout.strip() == "fine", done.stderr


# --- many frames ----------------------------------------------------------------------------------------------------


def test_frames_are_the_same_from_one_and_from_two_processes(two_processes):
    profiles = ["dmc", "fast", "dmc", "fast", "dmc"]
    one_by_one = [shared_renderer().render(*job) for job in zip(POSES, TARGETS, profiles, strict=True)]
    count = rendering._CHUNK + 3  # two chunks, the last one short
    many = np.resize(POSES, (count, 2)), np.resize(TARGETS, (count, 3)), [profiles[k % 5] for k in range(count)]
    here = render_frames(*many)
    there = list(two_processes([many, (POSES[::-1], TARGETS[::-1], profiles)]))
    np.testing.assert_array_equal(here, np.resize(one_by_one, here.shape))
    np.testing.assert_array_equal(there[0], here)
    np.testing.assert_array_equal(there[1], render_frames(POSES[::-1], TARGETS[::-1], profiles))


def test_one_target_serves_all_frames_and_none_hides_it():
    np.testing.assert_array_equal(render_frames(POSES, TARGETS[0]), render_frames(POSES, np.tile(TARGETS[0], (5, 1))))
    np.testing.assert_array_equal(render_frames(POSES), render_frames(POSES, np.zeros(3)))


def test_the_pool_leaves_the_environment_as_it_was(monkeypatch):
    for before in (None, "3"):
        monkeypatch.delenv("LP_NUM_THREADS", raising=False)
        if before:
            monkeypatch.setenv("LP_NUM_THREADS", before)
        with frame_stream(2):
            assert os.environ["LP_NUM_THREADS"] == "1"
        assert os.environ.get("LP_NUM_THREADS") == before


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((np.zeros((0, 2)),), InvalidInput, r"\(0, 2\)"),
        ((np.zeros(2),), InvalidInput, r"qpos must be \(N, 2\)"),
        ((np.zeros((4, 3)),), InvalidInput, r"\(4, 3\)"),
        ((np.full((4, 2), np.nan),), InvalidInput, "finite"),
        ((np.zeros((4, 2)), np.zeros((5, 3))), InvalidInput, r"targets.*\(5, 3\)"),
        ((np.zeros((4, 2)), np.zeros(2)), InvalidInput, r"targets.*\(2,\)"),
        ((np.zeros((4, 2)), np.array([0.1, np.inf, 0.05])), InvalidInput, "finite"),
        ((np.zeros((4, 2)), np.array([0.1, 0.1, -0.05])), InvalidInput, "radius"),
        ((np.zeros((4, 2)), None, ["dmc"] * 3), InvalidInput, "3 profiles for 4 frames"),
        ((np.zeros((4, 2)), None, "dcm"), UnknownName, "dcm.*known: dmc, fast"),
        ((np.zeros((4, 2)), None, ["dmc", "dmc", "fast", "stock"]), UnknownName, "stock.*known: dmc, fast"),
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_bad_input_is_a_typed_error_from_any_process(two_processes, arguments, error, says, processes):
    batch = (*arguments, *(None, "dmc")[len(arguments) - 1 :])
    with pytest.raises(error, match=says):
        render_frames(*arguments) if processes == 1 else list(two_processes([batch]))
    assert len(next(two_processes([(POSES[:1], None, "dmc")]))) == 1  # the pool lives on


def test_other_bad_input_is_a_typed_error():
    render = shared_renderer().render
    with pytest.raises(InvalidInput, match="2 finite angles"):
        render(np.zeros(3))
    with pytest.raises(InvalidInput, match="radius"):
        render(np.zeros(2), np.zeros(2))
    with pytest.raises(UnknownName, match="known: dmc, fast"):
        render(np.zeros(2), None, "stock")
    with pytest.raises(InvalidInput, match="at least 1"):
        render_frames(POSES, processes=0)
    with pytest.raises(UnknownName, match="known: easy, hard"):
        sample_targets(1, np.random.default_rng(0), "medium")


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["easy", "hard"])
def test_targets_stand_where_dm_controls_reset_puts_them(task):
    from dm_control import suite

    env = suite.load("reacher", task, task_kwargs={"random": 0})
    model = env.physics.named.model
    theirs = []
    for _ in range(200):
        env.task.initialize_episode(env.physics)
        theirs.append([*model.geom_pos["target", :2], model.geom_size["target", 0]])
    theirs = np.array(theirs)
    ours = sample_targets(2000, np.random.default_rng(0), task)
    assert set(ours[:, 2]) == set(theirs[:, 2])

    def p_value(a, b):
        """The smallest of x, y and radius."""
        a, b = ([*t.T[:2], np.hypot(*t.T[:2])] for t in (a, b))
        return min(ks_2samp(s, t).pvalue for s, t in zip(a, b, strict=True))

    assert p_value(ours, theirs) > 1e-3
    radius, wanted = np.hypot(*ours.T[:2]), 0.2 * np.sqrt(np.random.default_rng(1).random(len(ours)))
    uniform_on_disc = ours * (wanted / radius)[:, None]
    assert p_value(uniform_on_disc, theirs) < 1e-3  # negative control


# --- fingerprint ----------------------------------------------------------------------------------------------------


def test_a_fingerprint_agrees_with_itself_and_with_a_last_bit_of_another_driver():
    mark = render_fingerprint()
    assert check_fingerprint(mark, "the encoder")
    blocks = bytearray.fromhex(mark["dmc_blocks"])
    blocks[5] ^= 1
    assert check_fingerprint({**mark, "dmc": "0" * 16, "dmc_blocks": blocks.hex()}, "the encoder")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("change", ["other frame", "missing", "not hexadecimal"])
def test_another_fingerprint_warns_and_names_both(profile, change):
    mark = render_fingerprint()
    other = bytes((b + 2) % 256 for b in bytes.fromhex(mark[f"{profile}_blocks"])).hex()
    blocks = {"other frame": other, "missing": "", "not hexadecimal": "grey"}[change]
    altered = {**mark, "mujoco": "1.2.3", profile: "feedfacefeedface", f"{profile}_blocks": blocks}
    with pytest.warns(FingerprintMismatch) as caught:
        assert not check_fingerprint(altered, "the encoder 'x'")
    assert len(caught) == 1
    for word in ("the encoder 'x'", "1.2.3", "feedfacefeedface", mark["mujoco"], mark[profile], profile):
        assert word in str(caught[0].message)


def test_the_looks_have_different_fingerprints():
    mark = render_fingerprint()
    with pytest.warns(FingerprintMismatch):
        check_fingerprint({**mark, "fast_blocks": mark["dmc_blocks"]}, "x")


# --- back ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "chosen"), [({"EGL", "OSMesa"}, "egl"), ({"EGL"}, "egl"), ({"OSMesa"}, "osmesa"), ({"GLX"}, None)]
)
def test_back_end_choice(monkeypatch, installed, chosen):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so" if name in installed else None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if chosen is None:
        with pytest.raises(RenderingUnavailable, match="apt-get install -y libegl1 libgl1 libgl1-mesa-dri"):
            rendering.select_backend()
        assert "MUJOCO_GL" not in os.environ
    else:
        monkeypatch.setenv("MUJOCO_GL", "")  # so that monkeypatch puts the variable back afterwards
        assert rendering.select_backend() == os.environ["MUJOCO_GL"] == chosen
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert rendering.select_backend() == "glfw"  # what the user set is kept


def test_without_an_opengl_library_there_is_physics_and_no_picture():
    code = """
import ctypes.util, os
os.environ.pop("MUJOCO_GL", None)
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name in ("EGL", "OSMesa", "GL") else find(name)
import gymnasium as gym, numpy as np, worldplan.envs
from worldplan.envs.parallel import rollout_states
from worldplan.errors import RenderingUnavailable
for name, options in (("Reacher", {}), ("ReacherGoal", {"pixels": False})):
    env = gym.make(f"worldplan/{name}-v0", **options)
    env.reset(seed=0)
    env.step(np.ones(2, np.float32))
print(len(rollout_states(None, 1, steps=3)))
try:
    gym.make("worldplan/ReacherGoal-v0").reset(seed=0)
except RenderingUnavailable as error:
    print("no picture:", error)
"""
    done = run(code)
    assert "no picture: no headless OpenGL library found" in done.stdout, done.stderr


@pytest.mark.parametrize("backend", ["disable", "nonsense"])
def test_a_back_end_that_cannot_draw_is_a_typed_error(backend):
    code = "from worldplan.envs.rendering import ReacherRenderer; from worldplan.errors import RenderingUnavailable\n"
    code += "try: ReacherRenderer()\nexcept RenderingUnavailable as error: print(error)"
    done = run(code, MUJOCO_GL=backend)
    assert done.returncode == 0, done.stderr
    for words in (backend, "worldplan doctor", "apt-get install -y libegl1"):
        assert words in done.stdout


def test_an_encoder_tells_what_it_was_trained_on():
    mark = render_fingerprint()
    other = {**mark, "dmc_blocks": "00" * 192}

    def encoder(data):
        return SimpleNamespace(name="x", card={"data": data})

    assert check_encoder(encoder({"render": mark}))
    assert check_encoder(encoder({"frames": {"render": mark}}))
    assert check_encoder(encoder({"frames": None}))
    assert check_encoder(object())
    for data in ({"render": other}, {"frames": {"render": other}}):
        with pytest.warns(FingerprintMismatch, match="'x'"):
            assert not check_encoder(encoder(data))


# --- threads and forks ------------------------------------------------------------------------------------------------


THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import gymnasium as gym
import worldplan.envs
from worldplan.envs import rendering

def episode(seed):
    env = gym.make("worldplan/ReacherPixels-v0", profile="fast")
    frames, rng = [env.reset(seed=seed)[0]], np.random.default_rng(seed)
    for _ in range(20):
        frames.append(env.step(rng.uniform(-1, 1, 2).astype(np.float32))[0])
    return np.stack(frames)

class InEveryThread(rendering.SharedRenderer):  # as it was
    def render_all(self, jobs):
        return [self._renderer.render(*job) for job in jobs]

if __name__ == "__main__":
    alone = [episode(seed) for seed in range(4)]
    if sys.argv[1] == "unguarded":
        rendering.SharedRenderer = InEveryThread
        rendering._renderer.cache_clear()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(episode, range(4)))
    print("same" if all(map(np.array_equal, alone, together)) else "other")
"""


def test_threads_get_the_frames_of_their_own_environments():
    done = run(THREADS, "guarded")
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
    unguarded = run(THREADS, "unguarded")  # negative control: frames mixed up, an error, or a crash
    assert unguarded.returncode != 0 or unguarded.stdout == "other\n"


FORKED = """
import multiprocessing
import gymnasium as gym
import worldplan.envs

def make():
    return gym.make("worldplan/ReacherPixels-v0")

if __name__ == "__main__":
    make().reset(seed=0)  # the parent draws
    try:
        vector = gym.vector.AsyncVectorEnv([make, make], context="fork")
        vector.reset(seed=0)
    except worldplan.errors.RenderingUnavailable as error:
        print("told:", error)
"""


def test_a_fork_of_a_process_that_has_drawn_is_told_so(tmp_path):
    """It hung."""
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert "told: this process was forked from one that had drawn" in done.stdout, done.stderr


TRITON = "from pathlib import Path\nmaps = Path('/proc/self/maps').read_text()\nassert 'libLLVM' not in maps\n"


def with_triton(tmp_path, *lines):
    """What a process prints that has a Triton which, as the real one, ends it after Mesa's LLVM."""
    (tmp_path / "triton.py").write_text(TRITON)
    lines = ("import sys, numpy as np", f"sys.path.insert(0, {str(tmp_path)!r})", *lines)
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)


def test_triton_is_loaded_before_opengl(tmp_path):
    """Where torch has brought it. The other way round the process dies, of Mesa's LLVM and Triton's own."""
    done = with_triton(
        tmp_path,
        "from worldplan.envs.rendering import render_frames",
        "render_frames(np.zeros((1, 2)), np.zeros((1, 3)), 'fast')",
        "import triton",
        "for maps in (triton.maps, open('/proc/self/maps').read()):",
        "    print('libEGL' in maps or 'OSMesa' in maps)",
    )
    assert done.stdout == "False\nTrue\n", done.stderr


@pytest.mark.parametrize("ours", ["", "import worldplan.learning"])
def test_triton_is_kept_out_after_opengl(tmp_path, ours):
    """Where the user's own imports drew first; without worldplan the process ends."""
    draw = f"import os; os.environ['MUJOCO_GL'] = {rendering.select_backend()!r}", "import dm_control.suite"
    draw += ("dm_control.suite.load('reacher', 'easy').physics.render(64, 64)",)
    load = ("try:", "    import triton", "except ImportError:", "    print('kept out')")
    done = with_triton(tmp_path, *draw, ours, *load)
    if not ours and done.returncode == 0:
        pytest.skip("this OpenGL brings no LLVM")
    assert (done.stdout == "kept out\n") == bool(ours), done.stderr
