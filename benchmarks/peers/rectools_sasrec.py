"""RecTools' SASRec: `python -m benchmarks.peers.rectools_sasrec --data FILE --epochs N --out JSON`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

from benchmarks.peers.journal import Architecture, Journal, Vectors, order, parser
from benchmarks.peers.judge import Holdout, encoded, read


def interactions(holdout: Holdout) -> Dataset:
    """What is learnt from, in RecTools' form. It wants times: an event's place in its history serves."""
    lengths = [len(history) for history in holdout.learnt]
    place = np.concatenate([np.arange(length) for length in lengths])
    return Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: np.repeat(np.arange(len(lengths)), lengths),
                Columns.Item: np.concatenate(holdout.learnt),
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(place, unit="s"),
            }
        )
    )


def vectors(module: LightningModule, holdout: Holdout, part: str, length: int) -> Vectors:
    """The vectors of the learnt backbone. RecTools knows only items that are learnt from; others it cannot be shown."""
    known = module.data_preparator.item_id_map.external_ids[module.data_preparator.n_item_extra_tokens :].astype(int)
    inner = np.zeros(holdout.items, dtype=np.int64)  # 0 is RecTools' padding
    inner[known] = np.arange(len(known)) + module.data_preparator.n_item_extra_tokens
    histories = [[item for item in inner[history] if item] for history in holdout.shown[part]]
    net = module.torch_model
    embeddings = net.item_model.get_all_embeddings()
    users = encoded(
        histories, lambda items: net.encode_sessions({"x": items}, embeddings)[:, -1], length=length, padding=0
    )
    return Vectors(users=users, items=embeddings[inner], unknown=torch.from_numpy(inner == 0))


@dataclass
class Watch(Callback):
    """Hands the start and the end of every epoch to the journal."""

    journal: Journal
    holdout: Holdout
    length: int

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self.journal.epoch_starts()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock and judge."""
        loss = trainer.callback_metrics.get("train_loss")
        self.journal.epoch_ends(
            pl_module,
            lambda part: vectors(pl_module, self.holdout, part, self.length),
            None if loss is None else loss.item(),
        )


def main() -> None:
    """Learn, and write what was measured."""
    asked = order(parser("RecTools").parse_args())
    shape = Architecture()
    seed_everything(asked.seed, verbose=False)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    holdout = read(asked.data)
    options: dict[str, Any] = {"loss": "softmax", "use_key_padding_mask": True, "train_min_user_interactions": 2}
    model = SASRecModel(
        n_factors=shape.width,
        n_blocks=shape.blocks,
        n_heads=shape.heads,
        dropout_rate=shape.dropout,
        session_max_len=shape.max_length,
        lr=shape.learning_rate,
        batch_size=asked.batch_size,
        item_net_block_types=(IdEmbeddingsItemNet,),
        **options,
    )
    journal = Journal(
        library="RecTools",
        package="rectools",
        order=asked,
        holdout=holdout,
        settings={"model": "rectools.models.SASRecModel", "optimizer": "Adam(.9, .98)", **options},
    )
    # Their documented way to a trainer of one's own once the model is made; what the default does, and our callback.
    model._trainer = Trainer(
        max_epochs=asked.epochs,
        min_epochs=asked.epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch(journal, holdout, shape.max_length)],
    )
    model.fit(interactions(holdout))


if __name__ == "__main__":
    main()
