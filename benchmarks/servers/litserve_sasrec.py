"""The trained model behind LitServe, with its batching and its quick queue.

python -m benchmarks.servers.litserve_sasrec --package FOLDER --port PORT
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litserve

from benchmarks.servers.recommender import BATCH, Asked, Recommender, address


class Sasrec(litserve.LitAPI):
    """POST /predict: `{"user_id": …, "k": 10}` → `{"items": [{"item_id", "title", "score"}, …]}`"""

    def __init__(self, package: Path, wait_seconds: float) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=wait_seconds)
        self._package = package

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the package, in the worker."""
        self._recommender = Recommender(self._package)

    def decode_request(self, request) -> Asked:  # type: ignore[no-untyped-def] # FastAPI reads what it is annotated with
        """From the body, parsed."""
        return Asked(**request)

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        """What was asked at about the same time."""
        return inputs

    def predict(self, x: list[Asked]) -> list[list[dict[str, Any]]]:
        """A list each."""
        return self._recommender.recommend(x)

    def unbatch(self, output: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """One by one."""
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """To the body."""
        return {"items": output}


def main() -> None:
    given = address(__doc__)
    model = Sasrec(given.package, given.wait_seconds)
    server = litserve.LitServer(model, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=given.port, log_level="warning", access_log=False, generate_client_file=False)


if __name__ == "__main__":
    main()
