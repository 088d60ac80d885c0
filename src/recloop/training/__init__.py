"""The training loop: determinism, early stopping, curves."""
