"""Taking the live champion into `data/warm` for trainings to begin from, as a version of the data like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, func, select

from recloop.data.warm import read_champion, write_champion, write_none
from recloop.project import Project
from recloop.serving.parcel import PackageInfo, check_package
from recloop.serving.pointer import Pointer, read_pointer
from recloop.serving.tables import forgotten, user_hash


def take_champion(project: Project, database: Engine) -> str | None:
    """Bring `data/warm` up to date: with `train.warm_start` it holds the live champion, else none.

    None is taken that cannot be begun from, since it is computed at once, nor one that has learnt from somebody who has
    asked to be forgotten since: what it learnt from them would go on from version to version.

    Returns:
        What was written, in words; None where there was nothing to write, with `train.warm_start` off.

    Raises:
        ServingError: the live package is damaged.
        StageError: what is in the folder is damaged.
        DatabaseError: the database does not answer.
    """
    if not project.params.train.warm_start:
        if not project.warm.exists() or read_champion(project.warm) is None:
            return None
        write_none(project.warm)
        return "train.warm_start is off: the champion is taken out of data/warm"
    live = read_pointer(project.live)
    why_not = "no champion is live" if live is None else _why_not(project.live / live.folder, live, database)
    if live is None or why_not is not None:
        write_none(project.warm)
        return f"trainings begin from nothing: {why_not}"
    copy_champion(project.live / live.folder, project.warm)
    return f"the champion, v{live.version}, taken into data/warm for trainings to begin from"


def copy_champion(package: Path, folder: Path) -> None:
    """Put the model of a package into `data/warm`.

    Args:
        package: of a version.
        folder: of the stage `warm`.
    """
    items, histories = (pq.read_table(package / f"{name}.parquet") for name in ("items", "histories"))
    write_champion(
        folder,
        package,
        item_ids=items["item_id"],
        user_ids=histories["user_id"],
        learnt_until=learnt_until(items, histories),
    )


def learnt_until(items: pa.Table, histories: pa.Table) -> int | None:
    """Time of the newest event that the model of a package learnt from, in µs since 1970.

    The package says how many events of each item were learnt from. Where a cut in time parted them from the others,
    they are the oldest ones of all; None where they are not.

    Args:
        items: the package's, with `train_count`.
        histories: the package's: every event, of whatever period.
    """
    times, taken = (np.asarray(_flat(histories[name]), np.int64) for name in ("times", "items"))
    counts = np.asarray(items["train_count"])
    newest = int(np.partition(times, counts.sum() - 1)[counts.sum() - 1])
    oldest = np.bincount(taken[times <= newest], minlength=len(counts))
    return newest if np.array_equal(oldest, counts) else None


def _why_not(package: Path, live: Pointer, database: Engine) -> str | None:
    """Why trainings cannot begin from a package; None where they can."""
    from recloop.models.base import Learner
    from recloop.models.catalogue import model_class

    check_package(package, live.package_sha256)
    model = PackageInfo.model_validate_json((package / "package.json").read_bytes()).model
    if not issubclass(model_class(model), Learner):
        return f"the champion is {model}, which is computed from the data at once"
    if _knows_forgotten(pq.read_table(package / "histories.parquet", columns=["user_id", "times"]), database):
        return "the champion has learnt from somebody who has asked to be forgotten since"
    return None


def _knows_forgotten(histories: pa.Table, database: Engine) -> bool:
    """Whether there are events in a package that their user has had deleted since."""
    query = select(forgotten.c.user_hash, func.max(forgotten.c.at)).where(forgotten.c.events > 0)
    with database.connect() as connection:
        asked_at = {row[0]: row[1] for row in connection.execute(query.group_by(forgotten.c.user_hash))}
    if not asked_at:
        return False
    users = zip(histories["user_id"].to_pylist(), histories["times"].to_pylist(), strict=True)
    return any(times and times[0] <= asked_at.get(user_hash(user), -1) for user, times in users)


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    return lists.combine_chunks().flatten()
