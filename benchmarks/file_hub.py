"""A hub with one file of zeros, sent by the kernel, so that it is never the slow part: ``python -m benchmarks.file_hub PATH``.

Answers what registering and fetching need, by Range, and tells at ``/sent`` how many bytes of the file it sent.
"""

import asyncio
import json
import re
import sys
from hashlib import file_digest, sha1
from pathlib import Path

REPO = "bench/zeros"
COMMIT = sha1(REPO.encode(), usedforsecurity=False).hexdigest()


class FileHub:
    """Serves one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        with path.open("rb") as file:
            self._sha256 = file_digest(file, "sha256").hexdigest()
        self._sent = 0

    async def serve(self) -> None:
        """Listen on a free port, say which, and serve until cancelled."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        print(json.dumps({"port": server.sockets[0].getsockname()[1], "sha256": self._sha256}), flush=True)
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left, which is how all of them end
        finally:
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.split(" ", 2)
        if path == "/sent":
            return await _json(writer, {"sent_bytes": self._sent})
        if path.startswith("/api/models/"):
            lfs = {"sha256": self._sha256, "size": self._size, "pointerSize": 134}
            sibling = {"rfilename": self._path.name, "size": self._size, "blobId": COMMIT, "lfs": lfs}
            return await _json(writer, {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": [sibling]})
        await self._file(head, method, writer)

    async def _file(self, head: str, method: str, writer: asyncio.StreamWriter) -> None:
        found = re.search(r"range: bytes=(\d+)-(\d*)", head, re.IGNORECASE)
        start = int(found[1]) if found else 0
        end = min(int(found[2]) + 1, self._size) if found and found[2] else self._size
        part = f"Content-Range: bytes {start}-{end - 1}/{self._size}\r\n" if found else ""
        status = "206 Partial Content" if found else "200 OK"
        writer.write(
            f'HTTP/1.1 {status}\r\nX-Repo-Commit: {COMMIT}\r\nETag: "{self._sha256}"\r\n{part}'
            f"Content-Length: {end - start}\r\n\r\n".encode()
        )
        await writer.drain()
        if method != "GET":
            return
        with self._path.open("rb") as file:
            block = 8 << 20
            for position in range(start, end, block):
                self._sent += await asyncio.get_running_loop().sendfile(
                    writer.transport, file, position, min(block, end - position)
                )


async def _json(writer: asyncio.StreamWriter, document: object) -> None:
    body = json.dumps(document).encode()
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


if __name__ == "__main__":
    asyncio.run(FileHub(Path(sys.argv[1])).serve())
