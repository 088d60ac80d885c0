"""RePlay's SasRec: `python -m benchmarks.peers.replay_sasrec --data FILE --epochs N --out JSON`."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule as ReplayModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import LengthBucketedQueryEncoder, SasRec
from replay.nn.transform import TargetAwareAdaptiveTrimTransform, UnsqueezeTransform
from replay.nn.transform.template import make_default_sasrec_transforms

from benchmarks.peers.journal import Architecture, Journal, Vectors, order, parser
from benchmarks.peers.judge import Holdout, encoded, read

ITEM = "item_id"
PARTITION = 1 << 20
"""Rows of the file read at once, which is RePlay's own default: all of them."""
BUCKET = 32
"""Users of similar length that the encoder sees at once, on the quick road."""


def schema(holdout: Holdout, width: int) -> TensorSchema:
    """One feature, the item. RePlay wants the padding to be the number after the last item."""
    return TensorSchema(
        [
            TensorFeatureInfo(
                ITEM,
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM)],
                embedding_dim=width,
                cardinality=holdout.items,
                padding_value=holdout.items,
            )
        ]
    )


def batches(holdout: Holdout, features: TensorSchema, folder: Path, batch_size: int, *, trim: bool) -> ParquetModule:
    """What is learnt from, as the Parquet file and the transforms that RePlay's template asks for.

    Args:
        holdout: histories; those of one event are left out, for they have no next item.
        features: as in `schema`.
        folder: where the file goes.
        batch_size: users a batch.
        trim: whether a batch is cut to its longest history, with RePlay's own transform, before it is learnt from.
    """
    path = folder / "learnt.parquet"
    histories = [history for history in holdout.learnt if len(history) >= 2]
    pq.write_table(pa.table({ITEM: pa.array(histories, pa.list_(pa.int64()))}), path)
    transforms = {"train": make_default_sasrec_transforms(features)["train"]}
    if trim:
        steps = transforms["train"]
        first = next(place for place, step in enumerate(steps) if isinstance(step, UnsqueezeTransform))
        steps.insert(first, TargetAwareAdaptiveTrimTransform([ITEM, "positive_labels"]))
    return ParquetModule(
        batch_size=batch_size,
        metadata={"train": {ITEM: {"shape": Architecture().max_length + 1, "padding": holdout.items}}},
        transforms=transforms,
        config={"train": {"generator": torch.default_generator, "partition_size": PARTITION}},
        train_path=str(path),
    )


def vectors(model: SasRec, holdout: Holdout, part: str, length: int) -> Vectors:
    """The vectors of the learnt body: the hidden state at the last place, and the tied embeddings."""
    users = encoded(
        holdout.shown[part],
        lambda items: model.body({ITEM: items}, items != holdout.items)[:, -1],
        length=length,
        padding=holdout.items,
    )
    return Vectors(users=users, items=model.body.embedder.get_item_weights(None))


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
        loss = trainer.callback_metrics.get("train_loss_epoch")
        self.journal.epoch_ends(
            pl_module,
            lambda part: vectors(pl_module.model, self.holdout, part, self.length),
            None if loss is None else loss.item(),
        )


def main() -> None:
    """Learn, and write what was measured."""
    options = parser("RePlay")
    options.add_argument(
        "--road",
        choices=["template", "quick"],
        default="template",
        help="its template as it stands, or with its own parts against padding: batches trimmed, encoder in buckets",
    )
    arguments = options.parse_args()
    asked, quick = order(arguments), arguments.road == "quick"
    shape = Architecture()
    seed_everything(asked.seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    holdout = read(asked.data)
    features = schema(holdout, shape.width)
    model = SasRec.from_params(
        features,
        embedding_dim=shape.width,
        num_heads=shape.heads,
        num_blocks=shape.blocks,
        max_sequence_length=shape.max_length,
        dropout=shape.dropout,
    )
    if quick:
        model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, bucket_size=BUCKET)
    settings: dict[str, Any] = {
        "model": "replay.nn.sequential.SasRec.from_params",
        "loss": "replay.nn.loss.CE",
        "optimizer": "Adam(.9, .98)",
        "road": arguments.road,
    }
    journal = Journal(library="RePlay", package="replay-rec", order=asked, holdout=holdout, settings=settings)
    with tempfile.TemporaryDirectory(prefix="recloop-peer-") as folder:
        Trainer(
            max_epochs=asked.epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=[Watch(journal, holdout, shape.max_length)],
        ).fit(
            ReplayModule(model, optimizer_factory=OptimizerFactory(learning_rate=shape.learning_rate)),
            datamodule=batches(holdout, features, Path(folder), asked.batch_size, trim=quick),
        )


if __name__ == "__main__":
    main()
