"""The trained model behind Ray Serve: one replica, which batches.

    python -m benchmarks.servers.ray_sasrec --package FOLDER --port PORT

Requests go through its proxy, as its documentation has it; or, where Ray finds RAY_SERVE_ENABLE_DIRECT_INGRESS in its
environment, straight to the replica, as from a load balancer of one's own.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve._private import replica
from ray.serve._private.constants import RAY_SERVE_ENABLE_DIRECT_INGRESS
from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.servers.recommender import BATCH, Asked, Recommender, address

OBJECT_STORE = 200_000_000
"""Bytes. Nothing of ours goes through it."""
QUIET = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1}, logging_config=QUIET)
class Sasrec:
    """POST /predict: `{"user_id": …, "k": 10}` → `{"items": [{"item_id", "title", "score"}, …]}`"""

    def __init__(self, package: Path, wait_seconds: float) -> None:
        _stay_at_home()
        self._recommender = Recommender(package)
        self._recommend.set_batch_wait_timeout_s(wait_seconds)

    @serve.batch(max_batch_size=BATCH)
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
    ray.init(
        num_cpus=2,
        object_store_memory=OBJECT_STORE,
        include_dashboard=False,
        logging_level="WARNING",
        _node_ip_address="127.0.0.1",
    )
    # Where the replica has our port, the proxy stands by on the next one: Ray starts it all the same.
    port = given.port + 1 if RAY_SERVE_ENABLE_DIRECT_INGRESS else given.port
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port}, logging_config=QUIET)
    serve.run(Sasrec.bind(given.package, given.wait_seconds), route_prefix="/predict")
    signal.pause()  # Ray ends all of its own on SIGTERM


if __name__ == "__main__":
    main()
