"""What more than one file of end-to-end tests goes by."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import clone_checkout
from tests.shop import use_shop


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the project, trained on the small shop with `dvc repro`. For one worker only: it takes a minute."""
    clone = clone_checkout(tmp_path_factory.mktemp("trained") / "clone")
    use_shop(clone)
    done = subprocess.run(["dvc", "repro"], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return clone
