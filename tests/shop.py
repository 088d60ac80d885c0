"""A small shop's log, made up: people walk through a catalogue item by item, so that order can be learnt."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

START = 1_700_000_000


def write_shop(folder: Path, *, users: int = 80, items: int = 40, length: int = 12, seed: int = 1) -> Path:
    """Write two CSV files: users start somewhere and mostly buy the next item each day."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        item, day = int(rng.integers(items)), int(rng.integers(60))
        for step in range(length):
            rows.append((f"u{user}", f"p{item}", START + 86_400 * (day + step) + user))
            item = (item + (1 if rng.random() < 0.9 else int(rng.integers(items)))) % items
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "product", "when"])
        writer.writerows(rows)
    with (folder / "products.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "groups"])
        writer.writerows((f"p{item}", f"Product {item}", f"group{item % 4}") for item in range(2 * items))
    return folder / "log.csv"


def use_shop(project: Path, **train: object) -> None:
    """Point `project`'s params at its own `shop/` folder, with a training that takes seconds."""
    write_shop(project / "shop")
    change_params(
        project,
        {
            "source": {
                "kind": "table",
                "folder": "shop",
                "interactions": {
                    "path": "log.csv",
                    "columns": {"user_id": "customer", "item_id": "product", "timestamp": "when"},
                    "constants": {"event": "purchase"},
                },
                "items": {
                    "path": "products.csv",
                    "columns": {"item_id": "sku", "title": "name", "categories": "groups"},
                },
                "timestamp_unit": "s",
            },
            "gate.events": {"purchase": [0.0, 1000.0]},
            "gate.min_rows": 100,
            "zoo": ["popularity", "sasrec"],
            "train.epochs": 2,
            "models.sasrec.dim": 8,
            "models.sasrec.blocks": 1,
            "evaluate.bootstrap": 200,
            "monitoring.min_events": 200,
            "monitoring.window_events": 200,
            **{f"train.{key}": value for key, value in train.items()},
        },
    )


def change_params(project: Path, changes: dict[str, object]) -> None:
    """Set dotted keys of `project`'s params.yaml."""
    path, yaml = project / "params.yaml", YAML()
    content = yaml.load(path.read_text())
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[key] = value
    with path.open("w") as file:
        yaml.dump(content, file)
