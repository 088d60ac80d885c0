"""Optuna: the search for better settings of a model, shared by as many workers as one likes."""
