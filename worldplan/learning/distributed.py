"""Training in several processes, each with its part of every batch: sums over the processes, which autograd sees.

The loss is a function of the whole batch (a characteristic function, a covariance, all negatives), not a mean of losses
of its parts. So every process computes the loss of the whole batch, from statistics that are summed over W processes.
Where a statistic is summed, `backward` sums its gradients too. It thus differentiates the sum of the W losses, which
are all the same. So the mean of the processes' gradients, `average_gradients`, is the gradient of the loss.

`DistributedDataParallel` would add nothing but buckets: it averages gradients too, and knows no statistics. Without a
group of processes, nothing here changes a number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from worldplan.errors import InvalidInput, ProcessLost

TIMEOUT = timedelta(minutes=30)  # to find each other, and to wait for a process that reads or validates

_SHARDED: ContextVar[bool] = ContextVar("sharded", default=False)


# --- who takes part -------------------------------------------------------------------------------------------------


def processes() -> int:
    """Number of processes of the default group; 1 without one."""
    return dist.get_world_size() if _grouped() else 1


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def leads() -> bool:
    """Whether this is process 0, which alone reads and writes the folder of a run."""
    return rank() == 0


@contextmanager
def joined(device: str = "auto", timeout: timedelta = TIMEOUT) -> Iterator[None]:
    """Context manager: the group of processes that `torchrun` started, be it one. Without torchrun there is none.

    Every process takes the GPU of its number on its machine, unless `device` is the CPU. GPUs talk by NCCL, CPUs by
    gloo, and what is agreed upon goes by gloo always: it notices at once that a process has ended.

    Raises:
        InvalidInput: no address to meet at, no way to talk, numbers that are none, fewer GPUs than processes, or one
            GPU for all.
        ProcessLost: nobody answers at the address within `timeout`.
    """
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    count = _number("WORLD_SIZE", "1")
    if count < 2 and missing:
        yield
        return
    if missing:
        raise InvalidInput(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set: start with "
            "`torchrun --nproc-per-node N -m worldplan pretrain ...`, or unset WORLD_SIZE"
        )
    if _number("RANK") >= count or not 0 < _number("MASTER_PORT") < 2**16:
        raise InvalidInput("RANK must be below WORLD_SIZE, and MASTER_PORT a port; start with torchrun")
    if not dist.is_available() or not dist.is_gloo_available():
        raise InvalidInput("this build of torch has no gloo, by which processes talk; install another, or train in one")
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        _take_gpu(device, _number("LOCAL_RANK", "0"))
    try:
        dist.init_process_group(backend, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ProcessLost(f"the processes of this run did not meet at {where} ({error}); start them all") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def _number(name: str, default: str = "") -> int:
    text = os.environ.get(name, default)
    if not text.isdecimal():
        raise InvalidInput(f"the environment variable {name} must be a whole number, got {text!r}; start with torchrun")
    return int(text)


def _take_gpu(device: str, local: int) -> None:
    if ":" in device:
        raise InvalidInput(f"several processes take a GPU each; give --device cuda in place of {device}")
    if local >= torch.cuda.device_count():
        raise InvalidInput(f"process {local} finds {torch.cuda.device_count()} GPUs here; lower --nproc-per-node")
    torch.cuda.set_device(local)


# --- statistics of a batch that is split ----------------------------------------------------------------------------


@contextmanager
def sharded() -> Iterator[None]:
    """Context manager in which a batch is the processes' parts of it together, of equal size and in their order.

    Statistics of the batch (`total`, `average`, `gathered`) and every BatchNorm see all of it. Outside, each process is
    alone.
    """
    if not _grouped():
        yield
        return
    token = _SHARDED.set(True)
    try:
        with _WholeBatchNorm():
            yield
    finally:
        _SHARDED.reset(token)


def shards() -> int:
    """Number of parts of a batch: 1 outside of `sharded`."""
    return processes() if _SHARDED.get() else 1


def part(count: int) -> slice:
    """This process's rows of a whole batch of `count`."""
    each = count // shards()
    return slice(each * rank(), each * (rank() + 1)) if shards() > 1 else slice(None)


def total(x: Tensor) -> Tensor:
    """Sum of every process's x, of one shape; the gradient too is summed."""
    if shards() == 1:
        return x
    summed: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return summed


def average(x: Tensor) -> Tensor:
    """Mean of every process's x: of means over parts, the mean over the batch."""
    return x if shards() == 1 else total(x) / shards()


def gathered(rows: Tensor) -> Tensor:
    """Rows (B / W, ...) of all W processes as (B, ...), for what no sum tells: an order, or all pairs."""
    if shards() == 1:
        return rows
    return total(torch.cat([rows if k == rank() else torch.zeros_like(rows) for k in range(shards())]))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


class _WholeBatchNorm(TorchFunctionMode):
    """Every BatchNorm, of any network, takes mean and variance over the processes' parts of a batch together."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_batch_norm if func is functional.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` over the whole batch; channels (B, C, ...) stand in the second place."""
    if not training:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    rest = [k for k in range(x.ndim) if k != 1]
    shape = [-1 if k == 1 else 1 for k in range(x.ndim)]
    own_variance, own_mean = (moment.double() for moment in torch.var_mean(wide, rest, correction=0))
    mean, square = average(torch.stack([own_mean, own_variance + own_mean.square()])).unbind()
    variance, mean = (square - mean.square()).to(wide), mean.to(wide)  # in float64, this difference is exact enough
    if running_mean is not None and running_var is not None:
        count = shards() * x.numel() / x.shape[1]
        running_mean.lerp_(mean.detach().to(running_mean), momentum)
        running_var.lerp_(variance.detach().to(running_var) * (count / (count - 1)), momentum)
    scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
    found = (wide - mean.view(shape)) * scale.view(shape)
    return (found if bias is None else found + bias.view(shape)).to(x.dtype)


# --- what all do alike ----------------------------------------------------------------------------------------------


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes: of a loss that all of them have, its gradient."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if processes() == 1 or not gradients:
        return
    flat = _summed(torch.cat([g.flatten() for g in gradients])) / processes()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def agreed(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set in any process. All wait for each other here."""
    if processes() == 1:
        return flags
    return tuple(bool(count) for count in _summed(torch.tensor(flags, dtype=torch.float32, device=_table())))


def shared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of process 0, on the CPU; those of others count for nothing."""
    if processes() == 1:
        return dict(tensors)
    content = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}) if leads() else b""
    length = _told(torch.tensor([len(content)], device=_table()))
    blob = (
        torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if leads()
        else torch.empty(int(length), dtype=torch.uint8)
    )
    return load(_told(blob.to(_table())).cpu().numpy().tobytes())


def _table() -> torch.device:
    """Where what is agreed upon lies: the CPU, unless the group talks by NCCL alone."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _summed(x: Tensor) -> Tensor:
    found = x.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        dist.all_reduce(found)
    return found


def _told(x: Tensor) -> Tensor:
    with _together():
        dist.broadcast(x, 0)
    return x


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "another process of this run has ended, or does not answer: see what it said. What was kept last is whole; "
            f"start all of them again with --resume ({str(error).split('. ')[0]})"
        ) from error
