"""Hello from BentoML, as its documentation writes a service: what the framework costs by itself.

python -m benchmarks.servers.bentoml_hello --port PORT
"""

from __future__ import annotations

import argparse
import os
import sys

import bentoml
from pydantic import BaseModel


class Greeting(BaseModel):
    """The answer."""

    message: str


@bentoml.service(logging={"access": {"enabled": False}})
class Hello:
    """All else is as it is by default: one worker, metrics on."""

    @bentoml.api
    async def hello(self, name: str) -> Greeting:
        """`{"name": …}` → `{"message": …}`"""
        return Greeting(message=f"Hello, {name}!")


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--port", type=int, required=True)
    command = ["-m", "bentoml", "serve", "benchmarks.servers.bentoml_hello:Hello", "--host", "127.0.0.1"]
    os.execv(sys.executable, [sys.executable, *command, "--port", str(told.parse_args().port)])  # noqa: S606


if __name__ == "__main__":
    main()
