"""Hello from Starlette under bare uvicorn: the least that a JSON answer costs in Python.

python -m benchmarks.servers.starlette_hello --port PORT
"""

from __future__ import annotations

import argparse

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def hello(request: Request) -> JSONResponse:
    """`{"name": …}` → `{"message": …}`"""
    asked = await request.json()
    return JSONResponse({"message": f"Hello, {asked['name']}!"})


app = Starlette(routes=[Route("/hello", hello, methods=["POST"])])


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--port", type=int, required=True)
    uvicorn.run(app, host="127.0.0.1", port=told.parse_args().port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
