"""The same seed, data and machine give the same model, bit for bit.

What it takes: every random generator seeded, torch held to algorithms that give the same bits each time, cuBLAS
given a fixed workspace, and a fixed number of threads, because the order of a sum depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recloop.errors import ConfigError


@contextmanager
def deterministic(*, seed: int, threads: int) -> Iterator[None]:
    """Compute reproducibly inside; afterwards torch's settings and generators are as they were.

    Args:
        seed: of torch's generators.
        threads: on a CPU.
    """
    # Read when CUDA is first used; where that was before, torch says so when an operation needs it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not `torch.use_deterministic_algorithms`: that imports torch's compiler, which takes seconds and is not used.
    held = torch.get_deterministic_debug_mode()
    benchmark, before = torch.backends.cudnn.benchmark, torch.get_num_threads()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        torch.set_deterministic_debug_mode("error")
        torch.backends.cudnn.benchmark = False
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(held)
            torch.backends.cudnn.benchmark = benchmark
            torch.set_num_threads(before)


def choose_device(wanted: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        ConfigError: `cuda` is wanted and torch finds none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device is cuda, but torch finds no CUDA device here",
            remedy="set train.device to auto or cpu, or install torch's CUDA build and the driver",
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
