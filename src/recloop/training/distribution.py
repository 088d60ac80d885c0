"""Training one model by several processes, started by `torchrun`.

Every process makes the same batches and learns from its own share of each: every n-th sequence. The gradients are
added up, so that a step is the one that a single process would have taken (but for the order of sums, and for what
dropout draws). On CPUs they speak by gloo, on GPUs by NCCL.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from recloop.data.batches import Batch
from recloop.errors import ConfigError

PATIENCE = timedelta(hours=2)
"""One process may write a large checkpoint while the others wait."""


def is_first() -> bool:
    """Whether this process is the only one of its training, or the one that writes and reports."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class Processes:
    """The processes of this training, and which of them this one is."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    """Where tensors are exchanged"""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """This process's part of a batch; it may be empty."""
        return batch if self.world == 1 else batch.rows(slice(self.rank, None, self.world))

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over all processes into each tensor, in one exchange."""
        tensors = list(tensors)
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def all(self, what: bool) -> bool:
        """Whether it holds in every process."""
        flag = torch.tensor([float(what)], device=self.device)
        self.add_up([flag])
        return bool(flag == self.world)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's tensors."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Those that `torchrun` started, joined to a group; this one alone where it was not started by it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    if device.type == "cuda":
        place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= there:
            raise ConfigError(
                f"torchrun started more processes here than there are GPUs ({there})",
                remedy=f"torchrun --nproc-per-node {there}, or set train.device to cpu",
            )
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), world, device.type)
    finally:
        distributed.destroy_process_group()
