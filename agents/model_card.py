"""The model card of an encoder or an agent on the hub: what it is, its numbers, how to load it, its licence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from worldplan.agents.planning_agent import PlanningAgent
from worldplan.data.world_card import WorldCard, world_of
from worldplan.learning.encoder import PixelEncoder
from worldplan.learning.foreign import is_code

_CARD = """---
library_name: worldplan
pipeline_tag: {task}
{license}tags:
- worldplan
- world-model
- planning
---

# {title}

{what}

    pip install 'worldplan[hub]'

```python
import worldplan as wp

{code}
```

| | |
|---|---|
{rows}

{command}The files are safetensors and JSON. Loading them checks their SHA-256, and unpickles nothing. `@` and a commit
behind the address pin what is loaded.

{terms}
"""
_ENCODER = """encoder = wp.load_encoder("{address}"{trust})
latents = encoder(frames)  # uint8 (T, {size}, {size}, 3) to floats (T, {n})"""
_AGENT = """agent = wp.agents.load_agent("{address}"{trust})
action, state = agent.predict(observation, state)  # images uint8 ({size}, {size}, 3): observation, desired_goal"""


def model_card(
    found: PixelEncoder | PlanningAgent, address: str, license: str = "", fit: Mapping[str, Any] | None = None
) -> str:
    """The text of README.md, Markdown with the hub's metadata.

    Args:
        found: what is published; an agent with an encoder of worldplan's own.
        address: where it will be, `hf://OWNER/NAME` or with a branch.
        license: its identifier, such as `mit`; empty if nobody gave one.
        fit: contents of an agent's `fit.json`.
    """
    agent = found if isinstance(found, PlanningAgent) else None
    encoder = found if isinstance(found, PixelEncoder) else found.encoder
    assert isinstance(encoder, PixelEncoder)
    n, network = encoder.latent_dim, encoder.trained.config
    code = is_code(network)
    world, card = world_of(encoder.card), encoder.card if agent is None else fit or {}
    of_world = "" if world is None else f" of the world `{_line(world.name)}`"
    frames = f"frames{of_world}, {encoder.size} x {encoder.size} pixels"
    if agent is None:
        what = f"A frozen encoder for planning: it maps {frames}, to a latent of {n}. It was made with worldplan."
    else:
        what = (
            f"An agent that steers to goal images, by planning in a latent of {n}. It sees {frames}. worldplan made it."
        )
    if code:
        what += f"\n\nThe code `{network['source']}` makes its network. It is not here: get it, and look at it first."
    facts = [*_encoder_rows(encoder, world), *([] if agent is None else _agent_rows(agent, card))]
    measured = card.get("validation")
    if agent is None and isinstance(measured, Mapping):
        facts += [(f"held out: {name}", f"{value:.4g}") for name, value in measured.items() if _is_number(value)]
    command = _line(card.get("command", ""))
    return _CARD.format(
        task="image-feature-extraction" if agent is None else "robotics",
        license=f"license: {license}\n" if license else "",
        title=address.rpartition("/")[2].partition("@")[0],
        what=what,
        code=(_ENCODER if agent is None else _AGENT).format(
            address=address, size=encoder.size, n=n, trust=", trust_code=True" if code else ""
        ),
        rows="\n".join(f"| {name} | {_line(value)} |" for name, value in facts),
        command=f"Made by\n\n    {command}\n\n" if command else "",
        terms=f"Licence: {license}." if license else "No licence was given: ask the owner before you use or share it.",
    )


def _encoder_rows(encoder: PixelEncoder, world: WorldCard | None) -> Iterator[tuple[str, str]]:
    yield "latent", ", ".join(encoder.space.kinds)
    if world is not None:
        yield "actions", ", ".join(f"{a:g} to {b:g}" for a, b in zip(world.action_low, world.action_high, strict=True))
        yield "step", f"{world.step_seconds:g} s"
    yield "parameters of the network", f"{sum(p.numel() for p in encoder.trained.parameters()):,}"
    yield "SHA-256 of the weights", str(encoder.card["sha256"])


def _agent_rows(agent: PlanningAgent, fit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "planner", str(agent.planner)
    yield "states of the model", str(agent.dynamics.state_dim)
    for name in ("environment_steps", "closed_loop_radius"):
        if _is_number(fit.get(name)):
            yield name.replace("_", " "), f"{fit[name]:.6g}"
    if isinstance(fit.get("verdict"), str):
        yield "on held-out episodes, the model", fit["verdict"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(text: Any) -> str:
    """Text that may stand in a cell: one line, no end of a cell."""
    return " ".join(str(text).split()).replace("|", "\\|")
