"""The endpoint at half load for a long time: does its memory stay where it is, and do its answers stay quick?

    python -m benchmarks.soak --data FOLDER/Beauty.txt [--minutes 10]

The load is `mixed` of `serving.py`: nine lists for one committed event, each event a new one. Memory is sampled every
second, and every minute has its own latencies. The picture is `results/soak.png`.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from benchmarks.report import RESULTS, machine, write
from benchmarks.servers.package import make_package
from benchmarks.servers.run import server, usage
from benchmarks.serving import COMPARED, OURS, WARM_SECONDS, Requests, load, write_requests
from recloop.exclusive import free_port

MOST = 5000
"""Requests a second that the file of requests is long enough for"""
SETTLED = 2
"""Minutes after which memory is expected to stay where it is"""


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", type=Path, required=True, help="a file in the `sequences` form")
    told.add_argument("--minutes", type=int, default=10)
    told.add_argument("--epochs", type=int, default=10, help="of the model's training")
    given = told.parse_args()
    with tempfile.TemporaryDirectory(prefix="recloop-") as scratch:
        folder = Path(scratch)
        found = soak(make_package(given.data, folder / "package", epochs=given.epochs), given.minutes, folder)
    write("soak", found | {"data": given.data.stem})
    picture(found, RESULTS / "soak.png")
    print(
        f"{found['per_second']:,.0f} requests/s for {given.minutes} minutes, {found['failed']} failed; memory "
        f"{found['settled_mb']:,.0f} MB after {SETTLED} minutes, {found['last_mb']:,.0f} MB at the end "
        f"({found['grown_mb_a_minute']:+.2f} MB a minute)"
    )


def soak(package: Path, minutes: int, folder: Path) -> dict[str, Any]:
    """Find the top load, and go on for `minutes` at half of it."""
    port = free_port("127.0.0.1", 0)
    requests = Requests(write_requests(folder / "soak", OURS, "mixed", package, 0, lines=MOST * 60 * (minutes + 1)))
    with server(OURS, port=port, package=package) as process:
        load(port, requests, COMPARED, WARM_SECONDS["mixed"])
        rate = load(port, requests, COMPARED, 10.0)["per_second"] / 2
        with sampled(process) as samples:
            every = [load(port, requests, 64, 60.0, rate=rate) for _ in range(minutes)]
    memory = np.array([(sample["minute"], sample["memory_mb"]) for sample in samples])
    settled = memory[memory[:, 0] >= min(SETTLED, minutes / 2)]
    return {
        "per_second": rate,
        "failed": sum(sum(each["statuses"].values()) - each["answered"] for each in every),
        "settled_mb": round(float(np.median(settled[:30, 1])), 1),
        "last_mb": round(float(np.median(memory[-30:, 1])), 1),
        "grown_mb_a_minute": round(float(np.polyfit(*settled.T, 1)[0]), 3),
        "minutes": [{"by_path": each["by_path"], "statuses": each["statuses"]} for each in every],
        "samples": samples,
    }


@contextmanager
def sampled(process: psutil.Process) -> Iterator[list[dict[str, float]]]:
    """A sample a second of the server's memory and processor time, as long as the block runs."""
    samples: list[dict[str, float]] = []
    begin, stop = time.monotonic(), threading.Event()

    def sample() -> None:
        while not stop.wait(1.0):
            taken = usage(process)
            minute = round((time.monotonic() - begin) / 60, 4)
            samples.append(
                {"minute": minute, "memory_mb": round(taken.rss_mb, 1), "cpu_seconds": round(taken.cpu_seconds, 2)}
            )

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def picture(found: dict[str, Any], path: Path) -> None:
    """Memory by the second, and latencies by the minute."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(8, 5), layout="constrained")
    above.plot(*zip(*((each["minute"], each["memory_mb"]) for each in found["samples"]), strict=True), lw=1)
    above.set_ylim(0)
    above.set_ylabel("memory, MB")
    above.set_title(
        f"{found['per_second']:,.0f} requests/s, one worker; {machine()['cores']} cores, {found['failed']} failed",
        fontsize=10,
    )
    middles = np.arange(len(found["minutes"])) + 0.5
    for target, label in (("/recommend", "lists"), ("/events", "events, committed")):
        for share, style in (("p50_ms", ":"), ("p99_ms", "-")):
            below.plot(
                middles,
                [each["by_path"][target][share] for each in found["minutes"]],
                style,
                color="C0" if target == "/recommend" else "C1",
                marker=".",
                label=f"{label}, {share[:3]}",
            )
    below.set_ylim(0)
    below.set_ylabel("latency, ms")
    below.set_xlabel("minutes")
    below.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
