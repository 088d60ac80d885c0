"""The trained model behind Ray Serve: one replica, which batches.

python -m benchmarks.servers.ray_sasrec --package FOLDER --port PORT
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve._private import replica
from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.servers.recommender import Asked, Recommender, address

BATCH, WAIT_SECONDS = 32, 0.010
OBJECT_STORE = 200_000_000
"""Bytes. Nothing of ours goes through it."""


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Sasrec:
    """POST /predict: `{"user_id": …, "k": 10}` → `{"items": [{"item_id", "title", "score"}, …]}`"""

    def __init__(self, package: Path) -> None:
        _stay_at_home()
        self._recommender = Recommender(package)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def _recommend(self, asked: list[Asked]) -> list[list[dict[str, Any]]]:
        """A list each, for what was asked at about the same time."""
        return self._recommender.recommend(asked)

    async def __call__(self, request: Request) -> JSONResponse:
        """One request. A bare dict would go out in chunks, without a length."""
        return JSONResponse({"items": await self._recommend(Asked(**await request.json()))})


def _stay_at_home() -> None:
    """Have this replica's gRPC server listen on 127.0.0.1: Ray has no setting for it, and lets it listen everywhere."""
    add = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add(server, address.replace("[::]", "127.0.0.1"))


def main() -> None:
    given = address(__doc__)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    ray.init(
        num_cpus=2,
        object_store_memory=OBJECT_STORE,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        logging_level="WARNING",
    )
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    serve.start(
        proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": given.port}, logging_config=quiet
    )
    serve.run(Sasrec.options(logging_config=quiet).bind(given.package), route_prefix="/predict")
    stopped.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
