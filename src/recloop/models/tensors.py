"""Tensors in a safetensors file, written straight from where they are: no copy of a large model is made in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write them; the same tensors give the same bytes.

    Raises:
        OSError: as the system has it, e.g. that the disk is full, which safetensors hides in a text.
    """
    there = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(there, path, dict(metadata or {}))
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), str(error), str(path)) from error
