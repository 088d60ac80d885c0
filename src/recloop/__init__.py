"""recloop: a recommender system that keeps itself fresh."""

import os

__version__ = "0.1.0"

# Torch's threads are to sleep while they wait for one another, not to spin: where others use the cores too, spinning
# makes training ten times as slow. Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
