"""What is lost by kills, let in by damaged files, or sent to the motors: some thousands of injected faults.

    python benchmarks/faults.py [--kills 200 --files 1500 --torques 10000]

- *Kills*: each verb that writes is ended before each of its renames and removals in turn, and then by SIGKILL at random
  instants. What readers see must be the old state or the new one. Then the verb is called again, with `resume` where
  something is unfinished. It must end with the bytes of a run that nobody killed.
- *Damaged files*: a bit is flipped, the end is cut off, a block is zeroed, doubled or removed, a number in JSON is
  changed, or two files change places. Loading must give the same content or raise a `WorldplanError`. The peak of
  memory must stay below four times the file's size, beyond what the whole file takes.
- *Torques*: frames, goals, states and planners are spoilt. `predict` must give finite torques within the limits, or
  raise a `WorldplanError`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from worldplan.data.files import atomic_write, read_json, to_json, write_json
from worldplan.errors import WorldplanError

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))  # writers that die, and small agents, are the tests' own

import killed  # noqa: E402
from arms import COST, joints, small_encoder  # noqa: E402

killed.SERVER.set_forkserver_preload(
    ["killed", "arms", "scipy.ndimage", "worldplan.envs.datasets.frames", "worldplan.agents.sac"]
    + ["worldplan.learning.pretraining", "stable_baselines3", "torch._dynamo"]
)


@dataclass(frozen=True)
class Options:
    """How many of each."""

    kills: int = 200
    files: int = 1500
    torques: int = 10_000
    seed: int = 0
    out: Path = Path("benchmarks/results")


Table = dict[str, dict[str, int]]


def main(options: Options) -> None:
    """Inject, judge, print, write; parts of which there shall be none stay as they were."""
    path = options.out / "faults.json"
    facts: dict[str, Any] = read_json(path) if path.exists() else {}
    parts = {"kills": (kills, options.kills), "files": (damaged, options.files), "torques": (torques, options.torques)}
    for name, (part, count) in parts.items():
        if not count:
            continue
        begin, load = perf_counter(), round(os.getloadavg()[0], 2)
        with tempfile.TemporaryDirectory() as folder:
            rows = part(count, Path(folder), np.random.default_rng([options.seed, len(name)]))
        facts[name] = {"seed": options.seed, "load": load, "seconds": round(perf_counter() - begin), "rows": rows}
        write_json(path, facts)
        print(f"### {name}\n\n{markdown(rows)}\n")
    with atomic_write(path.with_suffix(".md")) as stream:
        text = [f"### {name}, seed {part['seed']}\n\n{markdown(part['rows'])}" for name, part in facts.items()]
        stream.write(("\n\n".join(text) + "\n").encode())


def markdown(rows: Table) -> str:
    """One line for each kind of fault, and their sum."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    total = {name: sum(row.get(name, 0) for row in rows.values()) for name in names}
    lines = [["", *names], ["---"] * (len(names) + 1)]
    lines += [[kind, *(str(row.get(name, 0)) for name in names)] for kind, row in {**rows, "all": total}.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- kills ----------------------------------------------------------------------------------------------------------


def kills(count: int, folder: Path, rng: np.random.Generator) -> Table:
    """A death at each rename or removal of each verb, and at random instants up to `count` in all."""
    whole = Path(folder) / "pairs"
    assert killed.run(partial(killed.ou, count=24), whole, False) >= killed.WHOLE
    verbs: dict[str, tuple[list[Any], Any]] = {
        "collect ou": ([], killed.ou),
        "collect random": ([], killed.record),
        "collect frames": ([killed.record], killed.frames),
        "collect frames, other look": ([killed.record, killed.frames], killed.again),
        "pretrain": ([], partial(killed.train, whole)),
        "save an agent": ([], partial(killed.save, 0)),
        "save over an agent": ([partial(killed.save, 0)], partial(killed.save, 1)),
        "train-sac": ([], killed.sac),
    }
    stages, table = {}, {}
    for name, (before, verb) in verbs.items():
        place = folder / name.replace(" ", "-")
        for first in before:
            assert killed.run(first, place / "new", False) >= killed.WHOLE
        old = shutil.copytree(place / "new", place / "old") if before else None
        begin = perf_counter()
        steps = killed.run(verb, place / "new", False) - killed.WHOLE
        assert steps >= 0, name
        stages[name] = verb, old, place / "new", steps, perf_counter() - begin
        table[name] = dict.fromkeys(("kills", "reader saw neither state", "no way on", "other bytes"), 0)
    planned = [(name, {"deaths": k}) for name, (*_, steps, _) in stages.items() for k in range(steps)]
    random = rng.choice(list(stages), max(0, count - len(planned)))
    planned += [(name, {"after": float(rng.uniform(0, stages[name][4]))}) for name in random]
    for name, how in tqdm(planned, "kills", mininterval=5):
        table[name]["kills"] += 1
        if fault := _killed(*stages[name][:3], folder / "copy", how):
            table[name][fault] += 1
        shutil.rmtree(folder / "copy", ignore_errors=True)
    return table


CARDS = ("manifest.json", "encoder.json", "agent.json", "policy.json")


def _killed(verb: Any, old: Path | None, new: Path, copy: Path, how: Mapping[str, Any]) -> str:
    """What is lost; empty if nothing is."""
    if old:
        shutil.copytree(old, copy)
    states = [_contents(state) for state in (new, old) if state]
    killed.run(verb, copy, False, **how)
    for card in CARDS:  # what makes a folder one of its kind
        if (copy / card).exists() and card != "policy.json":  # a policy may be the best so far
            seen = _contents(copy)
            if not any(seen[card] == state.get(card) and _has(seen, state, card) for state in states):
                return "reader saw neither state"
    for resume in (True, False):
        if killed.run(verb, copy, resume) >= killed.WHOLE or _contents(copy) == states[0]:
            break
    else:
        return "no way on"
    return "" if _contents(copy) == states[0] else "other bytes"


def _contents(folder: Path) -> dict[str, bytes]:
    """What must be the same to the byte: all files but those of TensorBoard, which hold times."""
    files: dict[str, bytes] = killed.contents(folder)
    return {name: data for name, data in files.items() if not name.startswith("tb/")}


def _has(seen: Mapping[str, bytes], state: Mapping[str, bytes], card: str) -> bool:
    """Whether a reader finds all files that the card of a state names."""
    named = [name for name in state if name.encode() in state[card] and name != card]
    return all(seen.get(name) == state[name] for name in named)


# --- damaged files --------------------------------------------------------------------------------------------------

Load = Callable[[Path], Any]
ALLOCATOR = 2**21  # bytes by which a process may grow for its own reasons


def originals(folder: Path) -> dict[str, tuple[Path, Load]]:
    """One folder or file of each kind that worldplan reads, and what reads it as the commands do."""
    from worldplan.agents.actor import load_policy
    from worldplan.agents.fitting import recorded
    from worldplan.agents.planning_agent import PlanningAgent, load_agent
    from worldplan.data.cards import ZOO
    from worldplan.data.pairs import PairDataset, load_labels
    from worldplan.envs.datasets.hdf5 import export_hdf5, import_hdf5
    from worldplan.learning.encoder import load_encoder

    for verb, name in ((killed.ou, "pairs"), (killed.record, "episodes"), (killed.frames, "episodes")):
        assert killed.run(verb, folder / name, False) >= killed.WHOLE
    PlanningAgent(small_encoder(), joints(), COST).save(folder / "agent")
    shutil.copytree(folder / "agent" / "encoder", folder / "encoder")
    shutil.copytree(ZOO / "policies" / "reacher-easy", folder / "policy")
    (folder / "hdf5").mkdir()
    export_hdf5(recorded(folder / "episodes", 9).data, folder / "hdf5" / "episodes.hdf5")
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    seen = np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)

    def pairs(path: Path) -> Any:
        data = PairDataset(path)
        data.verify()
        return data.manifest, data[np.arange(len(data))], load_labels(path)

    def encoder(path: Path) -> Any:
        found = load_encoder(path)
        return found.card, found(frames)

    def agent(path: Path) -> Any:
        found = load_agent(path)
        return found.to_dict(), found.encoder(frames)

    def policy(path: Path) -> Any:
        found = load_policy(path)
        return found.card, found.distribution(seen)

    def hdf5(path: Path) -> Any:
        data, facts = import_hdf5(path / "episodes.hdf5")
        return vars(data), facts

    loads: dict[str, Load] = {
        "pairs": pairs,
        "episodes": lambda path: vars(recorded(path, 9).data),
        "encoder": encoder,
        "agent": agent,
        "policy": policy,
        "hdf5": hdf5,
    }
    return {name: (folder / name, load) for name, load in loads.items()}


def damaged(count: int, folder: Path, rng: np.random.Generator) -> Table:
    """Load what was damaged."""
    kinds = originals(folder)
    table: dict[str, dict[str, int]] = {}
    whole: dict[str, tuple[str, int]] = {}
    for name, (path, load) in kinds.items():
        _peak(load, path)  # imports take memory too
        content, memory = _peak(load, path)
        whole[name] = _text(content), memory
        table[name] = dict.fromkeys(
            ("damages", "refused", "same content", "OTHER CONTENT", "UNTYPED ERROR", "MEMORY"), 0
        )
    for k in tqdm(range(count), "files", mininterval=5):
        name = list(kinds)[k % len(kinds)]
        path, load = kinds[name]
        copy = shutil.copytree(path, folder / "copy")
        size, what = _damage(copy, rng)
        row = table[name]
        row["damages"] += 1
        try:
            content, memory = _peak(load, copy)
            same = _text(content) == whole[name][0]
            row["same content" if same else "OTHER CONTENT"] += 1
            if not same:
                tqdm.write(f"{name}: {what}: loads with other content")
        except WorldplanError:
            row["refused"] += 1
        except Exception as error:  # the script is about these
            tqdm.write(f"{name}: {type(error).__name__}: {error}")
            row["UNTYPED ERROR"] += 1
        else:
            if memory > whole[name][1] + 4 * size + ALLOCATOR:
                tqdm.write(f"{name}: {what}: took {memory} bytes, whole {whole[name][1]}")
                row["MEMORY"] += 1
        shutil.rmtree(copy)
    return table


def _damage(folder: Path, rng: np.random.Generator) -> tuple[int, str]:
    """Spoil a file at random; returns its size before, and what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    whole = path.read_bytes()
    # Half of the damages are near the start: that is where formats keep their sizes.
    at = int(rng.integers(min(len(whole), 400) if rng.random() < 0.5 else len(whole)))
    block = int(rng.integers(1, 200))
    kind = rng.integers(7)
    if kind == 0:
        spoilt = whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :]
    elif kind == 1:
        spoilt = whole[:at]
    elif kind == 2:
        spoilt = whole[:at] + bytes(len(whole[at : at + block])) + whole[at + block :]
    elif kind == 3:
        spoilt = whole[: at + block] + whole[at:]
    elif kind == 4:
        spoilt = whole[:at] + whole[at + block :]
    elif kind == 5 and (numbers := list(re.finditer(rb"\d+", whole[:100_000]))) and path.suffix == ".json":
        number = numbers[rng.integers(len(numbers))]
        other = [b"-1", b"0", b"7", b"1e9", b"1e400", b"NaN", b"null", b'"x"', b"[]", number.group() * 8][
            rng.integers(10)
        ]
        spoilt = whole[: number.start()] + other + whole[number.end() :]
    else:
        spoilt = files[rng.integers(len(files))].read_bytes()
    path.write_bytes(spoilt)
    return len(whole), f"kind {kind} at byte {at} of {path.name}, {whole[max(0, at - 20) : at + 20]!r}"


def _peak(load: Load, path: Path) -> tuple[Any, int]:
    """What is loaded, and by how many bytes this process grew meanwhile at most."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of before
    before = _memory("VmRSS")
    return load(path), _memory("VmHWM") - before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def _text(content: Any) -> str:
    return to_json(_plain(content))


def _plain(value: Any) -> Any:
    """JSON values; arrays as their bytes."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.tobytes().hex() if isinstance(value, np.ndarray) else value


# --- torques --------------------------------------------------------------------------------------------------------


def torques(count: int, folder: Path, rng: np.random.Generator) -> Table:
    """Spoil what an agent sees, remembers or asks."""
    from worldplan.agents.planning_agent import load_agent

    table: dict[str, Counter[str]] = defaultdict(Counter)
    shipped = {
        "lqr": load_agent("reacher"),
        "mpc": load_agent("reacher", planner="mpc"),
        "cem": load_agent("reacher", planner="cem", samples=32, iterations=2),
        "mppi": load_agent("reacher-lejepa", planner="mppi", samples=32, iterations=2),
    }
    frames = rng.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in tqdm(range(count), "torques", mininterval=5):
            kind = list(FAULTS)[k % len(FAULTS)]
            agent = shipped[list(shipped)[rng.integers(4)]]
            observation = {"observation": frames[0].copy(), "desired_goal": frames[1].copy()}
            state = agent.predict(observation)[1]
            row = table[kind]
            row["faults"] += 1
            try:
                agent, observation, state = FAULTS[kind](rng, agent, observation, state)
                action, after = agent.predict(observation, state)
                sane = action.shape == (2,) and np.isfinite(action).all() and (np.abs(action) <= 1).all()
                row["sane torques" if sane else "INSANE TORQUES"] += 1
                row["counted as fallback"] += int(after.fallbacks[0] > 0)
            except WorldplanError:
                row["typed error"] += 1
            except Exception as error:  # the script is about these
                tqdm.write(f"{kind}: {type(error).__name__}: {error}")
                row["UNTYPED ERROR"] += 1
    names = ("faults", "sane torques", "counted as fallback", "typed error", "INSANE TORQUES", "UNTYPED ERROR")
    return {kind: {name: row[name] for name in names} for kind, row in table.items()}


ODD = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e160, 1e20, 0.0)


def _odd(rng: np.random.Generator, array: Any) -> Any:
    """A copy with an odd number at a random place."""
    copy = np.array(array, dtype=np.float64)
    copy.flat[rng.integers(copy.size)] = ODD[rng.integers(len(ODD))]
    return copy


def _frame(rng: np.random.Generator, agent: Any, seen: Any, state: Any) -> Any:
    frame = seen["observation"]
    other = [
        np.zeros_like(frame), np.full_like(frame, 255), frame / 255, _odd(rng, frame), frame[:32], frame[..., 0],
        frame.transpose(2, 0, 1), frame.astype(np.int64), np.zeros((0, 64, 64, 3), np.uint8), None, "frame",
        rng.integers(0, 256, frame.shape).astype(np.uint8), frame[::-1, ::-1], frame.astype(object), frame > 99,
    ][rng.integers(15)]  # fmt: skip
    return agent, {**seen, "observation": other}, state


def _goal(rng: np.random.Generator, agent: Any, seen: Any, state: Any) -> Any:
    other = [
        _odd(rng, np.zeros(2)), np.zeros(3), np.zeros((1, 2)), [0.1, 0.2], None, "goal", np.zeros((64, 64, 3)),
        np.zeros((64, 64, 3), np.uint8), np.array([1e9, -1e9]), np.array([1 + 2j, 0]), {"x": 1}, [[1], [2, 3]],
    ][rng.integers(12)]  # fmt: skip
    return agent, {**seen, "desired_goal": other}, state


def _state(rng: np.random.Generator, agent: Any, seen: Any, state: Any) -> Any:
    name = ("mean", "action", "goal")[rng.integers(3)]
    if rng.random() < 0.8:
        return agent, seen, state._replace(**{name: _odd(rng, getattr(state, name))})
    return (
        agent,
        seen,
        [state[:3], state._replace(mean=state.mean[:, :1]), state._replace(mean=None), 5][rng.integers(4)],
    )


def _planner(rng: np.random.Generator, agent: Any, seen: Any, state: Any) -> Any:
    from worldplan.agents.planning_agent import PlanningAgent
    from worldplan.errors import SolverFailed

    answers: list[Any] = [
        np.full((1, 2), np.nan), np.full((1, 2), np.inf), np.full((1, 2), 7.0), np.zeros((2, 2)), np.zeros(2), None,
        "action", np.zeros((1, 2), complex), np.array([[None, 1]]), np.linalg.LinAlgError("x"), MemoryError("x"),
        RuntimeError("x"), SolverFailed("x"), ValueError("x"), ZeroDivisionError("x"), FloatingPointError("x"),
        OverflowError("x"), [[0.1, 0.2]],
    ]  # fmt: skip
    answer = answers[rng.integers(len(answers))]

    def plan(states: Any, goals: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer, np.zeros(1, dtype=bool)

    spoilt = PlanningAgent(agent.encoder, agent.dynamics, agent.cost, lambda setting: plan, charts=agent.charts)
    return spoilt, seen, state


FAULTS = {"frame": _frame, "goal": _goal, "state": _state, "planner": _planner}


if __name__ == "__main__":
    main(tyro.cli(Options))
