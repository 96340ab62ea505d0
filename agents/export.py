"""Agents as ONNX graphs: plan to goals without Python."""

from __future__ import annotations

import copy
import hashlib
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldplan.agents.latent_controller import PATIENCE
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.arrays import Floats, Frames
from worldplan.data.cards import ZOO, Cards
from worldplan.data.files import atomic_write, held, inside
from worldplan.errors import BadFile, InvalidInput, MissingExtra
from worldplan.learning.encoder import PixelEncoder, check_frames
from worldplan.learning.runtime import IR_VERSION, OPSET, Parts, onnx_graph, onnx_session, parts_of
from worldplan.planning.estimation import UNBELIEVABLE

GOAL, STEP, CONTRACT = "goal.onnx", "step.onnx", "contract.json"
CARDS = Cards("exported agent", ZOO / "exported", CONTRACT, "", {"format": 1}, "export the agent again")
_FILES = "files"  # entry of a contract: graphs under other names, while they replace earlier ones
TOLERANCE = 1e-6  # of an action, in its units, from the same latents
LATENT_TOLERANCE = 512 * float(np.finfo(np.float32).eps)  # of its size, or 1: sums of thousands, in another order


class GoalTail(nn.Module):
    """What the last layer gives, (1, n + k) for k circles, to the latent (n,) of a goal."""

    def __init__(self, encoder: PixelEncoder) -> None:
        super().__init__()
        self.angles = parts_of(encoder.network).angles

    def forward(self, outputs: Tensor) -> Tensor:
        """The latent as `PixelEncoder` computes it: angles in float32, wrapped in float64."""
        if self.angles is None:
            return outputs[0].to(torch.float64)
        cosines, sines = self.angles.planes(outputs)
        latents = outputs[:, : -len(self.angles.circles)].clone()
        latents[:, self.angles.circles] = torch.atan2(sines, cosines)
        latent = (latents @ self.angles.axes.T)[0].to(torch.float64)
        around = torch.from_numpy(self.angles.space.circles)
        return torch.where(around, latent - 2 * np.pi * torch.floor(latent / (2 * np.pi) + 0.5), latent)


class StepTail(nn.Module):
    """One control step: the last layer, filter state, last action and goal to action and filter state.

    The filter state is the estimate (d,) and the number of frames in a row that were not believed. Recursion and test
    are those of `StateEstimator.watch` and `LatentController.follow`, the action that of `ClippedLQR`.
    """

    def __init__(self, agent: PlanningAgent) -> None:
        super().__init__()
        assert isinstance(agent.encoder, PixelEncoder)
        self.goal = GoalTail(agent.encoder)
        control = agent.controller
        estimator, dynamics = control.estimator, control.estimator.dynamics
        self.n, self.d = agent.encoder.latent_dim, agent.dynamics.state_dim
        limits = np.broadcast_arrays(*control.limits, np.zeros(agent.dynamics.action_dim))[:2]
        unsure = np.zeros((self.n, self.n)) if estimator.precision is None else estimator.precision
        parts = {
            "A": dynamics.A,
            "B": dynamics.B,
            "c": dynamics.intercept,
            "L": estimator.gain,
            "S": unsure,
            "K": control.lqr.gain,
            "low": limits[0],
            "high": limits[1],
            "turn": np.where(control.space.circles, 2 * np.pi, 1.0),
            "around": control.space.circles.astype(np.float64),
        }
        for name, value in parts.items():
            self.register_buffer(name, torch.from_numpy(np.array(value, dtype=np.float64)))

    def forward(
        self, outputs: Tensor, start: Tensor, mean: Tensor, blind: Tensor, action: Tensor, goal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Action (m,) float32, estimate (d,) and count ()."""
        b: Any = self
        latent = self.goal(outputs)
        rest = torch.cat([latent, latent.new_zeros(self.d - self.n)])
        ahead = b.A @ mean + b.B @ action.to(torch.float64) + b.c
        innovation = self._short(latent - ahead[: self.n])
        odd = (innovation @ b.S @ innovation) > UNBELIEVABLE * self.n
        followed = ahead + b.L @ torch.where(odd, torch.zeros_like(innovation), innovation)
        count = torch.where(odd, blind + 1, torch.zeros_like(blind))
        anew = start | (count > PATIENCE)
        mean = torch.where(anew, rest, followed)
        count = torch.where(anew, torch.zeros_like(count), count)
        target = mean[: self.n] + self._short(goal - mean[: self.n])
        torque = b.K[:, : self.n] @ target - b.K @ mean
        return torch.minimum(torch.maximum(torque, b.low), b.high).to(torch.float32), mean, count

    def _short(self, way: Tensor) -> Tensor:
        """Differences (n,) of latents, on circles the shorter way round."""
        b: Any = self
        short: Tensor = way - b.around * b.turn * torch.floor(way / b.turn + 0.5)
        return short


@dataclass(frozen=True)
class Exported:
    """What `export_agent` wrote, and how far it is from `predict` over some control steps.

    Attributes:
        folder: of the graphs.
        steps: number of control steps.
        latent_error: largest difference of a latent, over its size or 1: float32 rounds otherwise in another runtime.
        action_error: largest difference of an action from the same latents, action units.
        total_error: largest difference from `predict`, action units: the first times the agent's gains, and the second.
    """

    folder: Path
    steps: int
    latent_error: float
    action_error: float
    total_error: float


def export_agent(agent: PlanningAgent, folder: Path | str, frames: Frames, *, command: str = "") -> Exported:
    """Write an agent as two ONNX graphs and a contract, and check them against `predict`.

    `goal.onnx` encodes a goal image; `step.onnx` is one control step of the clipped LQR. `contract.json` tells names,
    types, shapes and units, and the SHA-256 of both graphs.

    Args:
        agent: an agent with planner `lqr` and an encoder of worldplan.
        folder: receives the three files. Earlier ones are replaced: `ExportedAgent` sees the old or the new ones.
        frames: frames (T, S, S, 3), T > 1, of an episode, on which graphs and `predict` are compared; the last is the
            goal. Some are shown out of order, as nobody would believe them.
        command: provenance, stored in the contract.

    Raises:
        InvalidInput: another planner or encoder, an agent that plans in quarter turns, or latents, or actions from the
            same latents, that differ by more than rounding.
        BadFile: another process writes to the folder.
        MissingExtra: no exporter here.
    """
    if not isinstance(agent, PlanningAgent):
        raise InvalidInput(f"only agents are exported, such as `load_agent` gives, got {agent!r}")
    if agent.planner != "lqr" or agent.charts is not None or not isinstance(agent.encoder, PixelEncoder):
        raise InvalidInput(
            "only agents with the planner lqr, an encoder of worldplan and no quarter turns become graphs; load it "
            "with planner='lqr', or fit one to an encoder of trajectories"
        )
    folder, size = Path(folder), agent.encoder.size
    frames = check_frames(frames, size)
    if frames.ndim != 4 or len(frames) < 2:
        raise InvalidInput(f"need two frames of an episode or more, (T, {size}, {size}, 3), got {frames.shape}")
    n, d, m = agent.encoder.latent_dim, agent.dynamics.state_dim, agent.dynamics.action_dim
    parts = parts_of(agent.encoder.network)
    outputs = torch.zeros(1, n + int(agent.controller.space.circles.sum()))
    still = torch.zeros(d, dtype=torch.float64), torch.tensor(0), torch.zeros(m), torch.zeros(n, dtype=torch.float64)
    names = ["outputs", "start", "mean", "blind", "action", "goal"], ["action_out", "mean_out", "blind_out"]
    tails = {
        GOAL: _graph(GoalTail(agent.encoder), (outputs,), ["outputs"], ["goal"]),
        STEP: _graph(StepTail(agent), (outputs, torch.tensor(True), *still), *names),
    }
    graphs = {name: _joined(parts, size, tail) for name, tail in tails.items()}
    found = _compared(agent, graphs, frames, folder)
    if not (found.latent_error <= LATENT_TOLERANCE and found.action_error <= TOLERANCE):
        raise InvalidInput(f"the graphs differ from predict by more than rounding, nothing was written: {found}")
    with held(folder):
        _write(folder, graphs, _contract(agent, command))
    return found


def _write(folder: Path, graphs: dict[str, bytes], contract: dict[str, Any]) -> None:
    """Write graphs and contract; earlier ones stay until the contract is another, as in `Cards.write`."""
    contract["sha256"] = {name: hashlib.sha256(graph).hexdigest() for name, graph in graphs.items()}
    beside = {name: f"{contract['sha256'][name][:12]}-{name}" for name in graphs}
    replacing = (folder / CONTRACT).exists()
    if replacing:
        for name, graph in graphs.items():
            _put(folder / beside[name], graph)
        CARDS.write_card(folder, {**contract, _FILES: beside})
    for name, graph in graphs.items():
        _put(folder / name, graph)
    CARDS.write_card(folder, contract)
    if replacing:
        for name in beside.values():
            (folder / name).unlink()


def _put(path: Path, content: bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(content)


def read_contract(folder: Path | str) -> dict[str, Any]:
    """The contract of an exported agent. Raises BadFile if it is missing, altered, or of another format."""
    return CARDS.read(Path(folder))


class ExportedAgent:
    """An exported agent behind ONNX Runtime: what a program in any language does with the two graphs.

    Copies and pickles hold the graphs, and go on in the same episode.

    Args:
        folder: that `export_agent` wrote.

    Raises:
        InvalidInput: `folder` is no path.
        BadFile: files that do not belong together, or a graph that cannot run or names other files.
    """

    def __init__(self, folder: Path | str) -> None:
        if not isinstance(folder, str | Path):
            raise InvalidInput(f"name the folder of an exported agent, got {folder!r}")
        self.contract = read_contract(folder)
        self._graphs = {name: _graph_of(Path(folder), self.contract, name) for name in (GOAL, STEP)}
        self._state: dict[str, Any] = {}
        self._open(Path(folder))

    def _open(self, folder: Path) -> None:
        self._goal, self._step = (_session(folder / name, graph) for name, graph in self._graphs.items())
        self._sizes = {one.name: one.shape for one in self._step.get_inputs()}
        for name, session in ((GOAL, self._goal), (STEP, self._step)):
            real = session.get_inputs(), session.get_outputs()
            if [[(one.name, one.shape) for one in side] for side in real] != _told(self.contract, name):
                raise BadFile(folder / name, f"takes and gives other things than its contract tells; {CARDS.remedy}")

    def __getstate__(self) -> dict[str, Any]:
        return {"contract": self.contract, "_graphs": self._graphs, "_state": self._state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open(Path())

    def reset(self, goal: Frames) -> None:
        """Begin an episode towards a goal image (S, S, 3). Raises InvalidInput for another dtype or size."""
        (latent,) = self._goal.run(None, {"frame": self._checked(goal)})
        self._state = {"start": np.array(True), "blind": np.array(0), "goal": latent}
        self._state["mean"] = np.zeros(self._sizes["mean"])
        self._state["action"] = np.zeros(self._sizes["action"], np.float32)

    def act(self, frame: Frames) -> Floats:
        """Action (m,) for the next frame (S, S, 3) of the episode.

        Raises InvalidInput for another dtype or size, or before the first `reset`.
        """
        if not self._state:
            raise InvalidInput("no goal yet: call `reset` with a goal image first")
        action, mean, blind = self._step.run(None, {"frame": self._checked(frame), **self._state})
        self._state = {**self._state, "start": np.array(False), "mean": mean, "blind": blind, "action": action}
        return np.array(action)

    def _checked(self, frame: Any) -> Frames:
        size = self._sizes["frame"][0]
        array = check_frames(frame, size)
        if array.ndim != 3:
            raise InvalidInput(f"an exported agent takes one frame ({size}, {size}, 3) at a time, got {array.shape}")
        return array


def _compared(agent: PlanningAgent, graphs: dict[str, bytes], frames: Frames, folder: Path) -> Exported:
    """Graphs against `predict`, and against filter and planner on the graphs' own latents.

    Over the frames of an episode, some of them out of order, and in the end frames that show nothing.
    """
    encode, step = (onnx_session(graphs[name]) for name in (GOAL, STEP))
    shown = [*frames[:-1], *frames[-2:0:-7], *[255 - frames[0]] * (PATIENCE + 2)]
    goal = encode.run(None, {"frame": frames[-1]})[0]
    d, control, none = agent.dynamics.state_dim, agent.controller, np.zeros(1, dtype=np.int64)
    start, mean, blind = np.array(True), np.zeros(d), np.array(0)
    action, state, worst, own = np.zeros(agent.dynamics.action_dim, np.float32), None, np.zeros(3), np.zeros((1, d))
    counted = none
    for frame in shown:
        latent, ours = encode.run(None, {"frame": frame})[0], agent.encoder(frame[None])[0]
        if start:
            own = control.start(latent[None])
        else:
            own, _, counted = control.follow(
                own, action[None].astype(np.float64), latent[None], none > 0, none, counted
            )
        wanted, state = agent.predict({"observation": frame, "desired_goal": frames[-1]}, state)
        known = {"frame": frame, "start": start, "mean": mean, "blind": blind, "action": action, "goal": goal}
        action, mean, blind = step.run(None, known)
        gap = control.space.difference(latent, ours)
        errors = gap / np.maximum(np.abs(ours), 1.0), action - control.act(own, goal[None])[0][0], action - wanted
        worst = np.maximum(worst, [np.abs(error).max() for error in errors])
        start = np.array(False)
    return Exported(folder, len(shown), *map(float, worst))


def _contract(agent: PlanningAgent, command: str) -> dict[str, Any]:
    encoder, world = agent.encoder, agent.world
    assert isinstance(encoder, PixelEncoder)
    size = encoder.size
    n, d, m = agent.encoder.latent_dim, agent.dynamics.state_dim, agent.dynamics.action_dim
    frame = {"name": "frame", "type": "uint8", "shape": [size, size, 3], "means": "RGB, channels last, 0 to 255"}
    goal = {"name": "goal", "type": "float64", "shape": [n], "means": "latent of the goal"}
    mean = {"name": "mean", "type": "float64", "shape": [d], "means": "estimate; any value at the start"}
    blind = {"name": "blind", "type": "int64", "shape": [], "means": "frames in a row that were not believed"}
    action = {
        "name": "action",
        "type": "float32",
        "shape": [m],
        "means": "applied since the last frame; 0 at the start",
    }
    start = {"name": "start", "type": "bool", "shape": [], "means": "whether the frame begins an episode"}
    return {
        "command": command,
        "encoder": encoder.name,
        "world": None if world is None else world.to_dict(),
        "sizes": {"frame": size, "latent": n, "state": d, "action": m},
        "space": list(agent.controller.space.kinds),
        "opset": OPSET,
        "tolerance": TOLERANCE,
        "graphs": {
            GOAL: {"inputs": [frame], "outputs": [goal]},
            STEP: {
                "inputs": [frame, start, mean, blind, action, goal],
                "outputs": [{**told, "name": f"{told['name']}_out"} for told in (action, mean, blind)],
            },
        },
    }


def _network(parts: Parts, size: int) -> bytes:
    """The graph of the layers on `frames`; of a network of the user's own, that of torch's exporter."""
    if isinstance(parts.layers, nn.Sequential):
        return onnx_graph(parts.layers, size)
    # A copy in the usual memory order, which is no part of a graph: `to` would change the agent's own network.
    network = copy.deepcopy(parts.layers).to(memory_format=torch.contiguous_format)
    return _graph(network, (torch.zeros(1 + parts.mirror, 3, size, size),), ["frames"], ["outputs"])


def _joined(parts: Parts, size: int, tail: bytes) -> bytes:
    """Frame to last layer by the graph in which encoders compute, and what follows: the latents are those of `predict`.

    A graph of torch's exporter would sum in another order.
    """
    from onnx import TensorProto, checker, compose, helper, load_from_string, numpy_helper

    node = helper.make_node

    def part(given: Any, nodes: list[Any], **constants: Any) -> Any:
        """Nodes in sequence; the last one's output is that of the part."""
        gives = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
        values = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, given.name, [given], gives, values)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def then(model: Any, more: Any, name: str) -> Any:
        more.ir_version = IR_VERSION
        return compose.merge_models(model, more, [(model.graph.output[0].name, name)])

    prepare = [
        node("Cast", ["frame"], ["numbers"], to=TensorProto.FLOAT),
        node("Transpose", ["numbers"], ["first"], perm=[2, 0, 1]),
        node("Unsqueeze", ["first", "zero"], ["one"]),
        node("Div", ["one", "white"], ["shares"]),
        node("Sub", ["shares", "half"], ["upright"]),
    ]
    constants = {"zero": np.array([0]), "white": np.float32(255), "half": np.float32(0.5)}
    if parts.mirror:
        prepare.append(node("Slice", ["upright", "last", "before", "rows", "last"], ["mirrored"]))
        prepare.append(node("Concat", ["upright", "mirrored"], ["both"], axis=0))
        constants |= {"last": np.array([-1]), "before": np.array([-size - 1]), "rows": np.array([2])}
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [size, size, 3])
    network = compose.add_prefix(load_from_string(_network(parts, size)), "network/")
    model = then(part(frame, prepare, **constants), network, "network/frames")
    if parts.mirror:
        odd = [
            node("Split", ["pair"], ["up", "down"], axis=0, num_outputs=2),
            node("Sub", ["up", "down"], ["twice"]),
            node("Div", ["twice", "two"], ["odd"]),
        ]
        pair = helper.make_tensor_value_info("pair", TensorProto.FLOAT, [2, None])
        model = then(model, part(pair, odd, two=np.float32(2)), "pair")
    model = then(model, load_from_string(tail), "outputs")
    checker.check_model(model)
    joined: bytes = model.SerializeToString()
    return joined


def _graph(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str]) -> bytes:
    """A module as ONNX."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra("exporting agents", "onnx") from error
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module.eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,  # one file: a graph that names another would be read from anywhere
            verbose=False,
        )
        return path.read_bytes()


def _graph_of(folder: Path, contract: dict[str, Any], name: str) -> bytes:
    """The bytes of a graph. Raises BadFile if it is missing, or not the contract's."""
    files, sums = contract.get(_FILES), contract.get("sha256")
    path = inside(folder, files.get(name) if isinstance(files, dict) else name)
    if not path.is_file():
        raise BadFile(path, f"no such file; {CARDS.remedy}")
    graph = path.read_bytes()
    if not isinstance(sums, dict) or sums.get(name) != hashlib.sha256(graph).hexdigest():
        raise BadFile(path, f"is not the graph of this contract; {CARDS.remedy}")
    return graph


def _told(contract: dict[str, Any], name: str) -> Any:
    """Names and shapes of inputs and outputs of a graph by its contract; None if that does not tell."""
    try:
        sides = contract["graphs"][name]
        return [[(one["name"], one["shape"]) for one in sides[side]] for side in ("inputs", "outputs")]
    except (KeyError, TypeError):
        return None


def _session(path: Path, graph: bytes) -> Any:
    """A stored graph in ONNX Runtime."""
    try:
        return onnx_session(graph)
    except Exception as error:  # those of ONNX Runtime have no root of their own
        raise BadFile(path, f"is no graph that runs here ({error}); {CARDS.remedy}") from error
