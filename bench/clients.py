"""Clients of the load: many connections in one process, each with requests at times that were fixed before.

    python -m bench.clients < plan.json > times.json

A request's time runs from when it was due, not from when its connection was free: a server that falls behind cannot
hide it. With `every_s` 0 a connection asks again at once; then the plan measures throughput.

The protocol is written by hand (HTTP/1.1, answers with a length or in chunks), since a client library needs several
times the processor time of the server that it asks.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        kind: What it is counted as.
        method: Of HTTP.
        path: With its query.
        authorization: The header.
        body: JSON; "" for none.
    """

    kind: str
    method: str
    path: str
    authorization: str = ""
    body: str = ""

    def to_bytes(self, port: int) -> bytes:
        """As it goes over the wire."""
        head = [f"{self.method} {self.path} HTTP/1.1", f"Host: localhost:{port}"]
        head += [f"Authorization: {self.authorization}"] if self.authorization else []
        body = self.body.encode()
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
        return "\r\n".join([*head, "", ""]).encode() + body


@dataclass(frozen=True)
class Connection:
    """Requests one after the other, from the first again when all are done.

    Attributes:
        asks: The requests.
        every_s: Seconds from one to the next; 0: at once.
        first_s: When the first is due.
    """

    asks: tuple[Ask, ...]
    every_s: float = 0.0
    first_s: float = 0.0


def plan(port: int, seconds: float, connections: list[Connection]) -> str:
    """What this module reads."""
    return json.dumps({"port": port, "seconds": seconds, "connections": [asdict(item) for item in connections]})


async def _run(given: Any) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    begin = time.perf_counter() + 0.2
    connections = [
        Connection(tuple(Ask(**ask) for ask in item["asks"]), item["every_s"], item["first_s"])
        for item in given["connections"]
    ]
    await asyncio.gather(*[_ask(given["port"], item, begin, given["seconds"], found) for item in connections])
    return {"times": found, "seconds": time.perf_counter() - begin}


async def _ask(port: int, connection: Connection, begin: float, seconds: float, found: dict[str, list[float]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = [(ask.kind, ask.to_bytes(port)) for ask in connection.asks]
    due, number = begin + connection.first_s, 0
    while due < begin + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        kind, data = sent[number % len(sent)]
        writer.write(data)
        status = await _answer(reader)
        now = time.perf_counter()
        if status not in (200, 201):
            raise RuntimeError(f"{kind}: the server answered {status}")
        found.setdefault(kind, []).append(now - due)
        due, number = (due + connection.every_s if connection.every_s else now), number + 1
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    status, length = int(head.split(" ", 2)[1]), head.partition("content-length:")[2].partition("\r\n")[0]
    if length:
        await reader.readexactly(int(length))
        return status
    while size := int((await reader.readline()).strip(), 16):
        await reader.readexactly(size + 2)
    await reader.readline()
    return status


async def _echo(port: int) -> None:
    """A server that answers without reading more than it must: what the client alone can do."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trivial-server"]:
        asyncio.run(_echo(int(sys.argv[2])))
    else:
        print(json.dumps(asyncio.run(_run(json.load(sys.stdin)))))
