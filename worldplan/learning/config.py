"""The options of training. Imports no NumPy and no torch, because the command line reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import tyro

from worldplan.checks import check_fields, checked_seed
from worldplan.errors import InvalidInput


@dataclass(frozen=True)
class TrainingOptions:
    """How an encoder is trained, whatever the objective. These are also options of `worldplan pretrain`.

    Args:
        latent_dim: n, width of the embedding.
        network: `conv`, our own; `timm:NAME`, one of timm's; or `module:factory`, a function of the number of outputs
            that gives a torch.nn.Module.
        width: channels of the first convolution.
        hidden: units of the head.
        half: store the weights as float16; computation is in float32.
        mirror: make the saved encoder odd by averaging over the mirror image (`MirrorOdd`); training does not change.
        batch: pairs (sets of views), or windows, per step.
        epochs: passes over the training pairs; the last may be partial.
        lr: peak learning rate (AdamW; linear warm-up over a tenth of the steps, then cosine to 0).
        weight_decay: weight decay of AdamW.
        clip: largest gradient norm.
        validation: pairs held out to report the label-free loss.
        seed: seed for weights, data order and directions.
        device: "auto" takes a GPU when there is one.
        bfloat16: autocast the network; None does so on a GPU only.
        checkpoint_every: steps between checkpoints.
    """

    latent_dim: int = 2
    network: Annotated[str, tyro.conf.arg(metavar="conv|timm:NAME|module:factory")] = "conv"
    width: int = 16
    hidden: int = 256
    half: bool = False
    mirror: bool = False
    batch: int = 128
    epochs: float = 20
    lr: float = 4e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    validation: int = 1024
    seed: int = 0
    device: str = "auto"
    bfloat16: Annotated[bool | None, tyro.conf.arg(metavar="True|False")] = None
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        check_fields(self)
        sizes = ("latent_dim", "width", "hidden", "batch", "validation", "checkpoint_every")
        for name in (*sizes, "epochs", "lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInput(f"{name} must be positive and finite, got {getattr(self, name)}")
        checked_seed(self.seed)
        if self.batch < 2 or not 0 <= self.weight_decay < math.inf:
            raise InvalidInput(
                f"weight_decay must be positive or 0, got {self.weight_decay}; batch at least 2, got {self.batch}"
            )
