"""Stands in for a node: listens on its three ports, says so in `run.json`, answers /readyz, leaves on SIGTERM.

Files in its data folder change its manners: `crash` (dies at the start), `slow` (not ready while it is there), `stubborn`
(ignores SIGTERM), `apart` (its parent is missing).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tomllib
from pathlib import Path


async def answer(data: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    status = "503 Service Unavailable" if (data / "slow").exists() else "200 OK"
    text = "[+]database ok\n" + ("[!]parent unreachable\n" if (data / "apart").exists() else "")
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
    await writer.drain()
    writer.close()


async def main(config: Path) -> None:
    settings = tomllib.loads(config.read_text())
    data = config.parent / settings["node"]["data_dir"]
    print("environment", sorted(name for name in os.environ if name.startswith("TRUC_")), flush=True)
    if (data / "crash").exists():
        sys.exit("no disk, no ink, no paper")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set if not (data / "stubborn").exists() else lambda: None)
    run = {"pid": os.getpid()}
    for name in ("link", "office", "admin"):
        server = await asyncio.start_server(
            lambda reader, writer: answer(data, reader, writer), "127.0.0.1", settings[name]["listen_port"]
        )
        run[f"{name}_port"] = server.sockets[0].getsockname()[1]
    (data / "run.json.new").write_text(json.dumps(run))
    (data / "run.json.new").rename(data / "run.json")
    await stopped.wait()


if __name__ == "__main__":
    assert sys.argv[1:3] == ["run", "--config"]
    asyncio.run(main(Path(sys.argv[3])))
