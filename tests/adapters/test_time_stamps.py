"""Stamps of a real authority (openssl's) on a file of evidence: asked for over HTTP, and believed for that file and no other."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from node.adapters.http import time_stamps
from node.adapters.http.time_stamps import REPLY, BadStamp, NoLibrary, judged, stamped

DIGEST, OTHER = (hashlib.sha256(text).digest() for text in (b"one", b"another"))
CONFIG = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[stamping]
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[tsa]
serial = {folder}/serial
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/below.pem
ess_cert_id_alg = sha256
"""
NEW = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config conf"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, an authority below it, and one below that which stamps; another root that knows nobody."""
    pytest.importorskip("pyhanko")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tsa")
    (folder / "serial").write_text("01\n")
    (folder / "conf").write_text(CONFIG.format(folder=folder))
    for root in ("root", "stranger"):
        run(folder, f"req -x509 {NEW} -keyout {root}.key -out {root}.pem -subj /CN={root} -days 9 -extensions authority")
    for name, above, kind in (("below", "root", "authority"), ("tsa", "below", "stamping")):
        run(folder, f"req -new {NEW} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        issuer = f"-CA {above}.pem -CAkey {above}.key -CAcreateserial -days 9 -extfile conf -extensions {kind}"
        run(folder, f"x509 -req -in {name}.csr -out {name}.pem {issuer}")
    return folder


def run(folder: Path, command: str) -> None:
    subprocess.run(("openssl", *command.split()), cwd=folder, check=True, capture_output=True)


@pytest.fixture
async def served(authority: Path) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Where it answers; the answers in the list come before its own."""
    instead: list[bytes] = []

    async def stamp(request: web.Request) -> web.Response:
        (authority / "query").write_bytes(await request.read())
        if instead:
            return web.Response(body=instead.pop(), content_type=REPLY)
        await asyncio.to_thread(run, authority, "ts -reply -config conf -section tsa -queryfile query -out answer")
        return web.Response(body=(authority / "answer").read_bytes(), content_type=REPLY)

    app = web.Application()
    app.router.add_post("/", stamp)
    async with TestServer(app) as server:
        yield str(server.make_url("/")), instead


async def wrong(asked: object) -> str:
    with pytest.raises(BadStamp) as caught:
        await asked  # type: ignore[misc]
    return caught.value.why


async def test_a_stamp_is_for_one_file_by_one_authority_and_for_the_question_that_was_asked(
    authority: Path, served: tuple[str, list[bytes]]
) -> None:
    url, instead = served
    answer = await stamped(url, DIGEST, 7)
    root, stranger = ((authority / name).read_bytes() for name in ("root.pem", "stranger.pem"))

    async def judge(data: bytes, digest: bytes = DIGEST, under: bytes = root) -> time_stamps.Stamp:
        return await asyncio.to_thread(judged, data, digest, under)

    found = await judge(answer)
    assert "tsa" in found.by and found.at_ms % 1000 == 0
    assert await wrong(judge(answer, OTHER)) == "is for another file"
    instead.append(answer)
    assert await wrong(stamped(url, DIGEST, 8)) == "is for another question"
    assert await wrong(judge(answer, under=stranger)) == "its certificate is not good"
    assert await wrong(judge(answer, under=b"junk")) == "the authority's root cannot be read"
    for at in range(0, len(answer), 40):
        flipped = answer[:at] + bytes([answer[at] ^ 1]) + answer[at + 1 :]
        try:
            assert await judge(flipped) == found, at  # a byte that nothing is signed of
        except BadStamp:
            pass
    for said in (answer, b"", b"junk", answer[:-1], b"\x30" * 100_000, b"\x30\x03\x30\x01\x02"):
        instead.append(said)
        assert await wrong(stamped(url, OTHER, 8))


async def test_an_authority_that_is_away_is_no_stamp(authority: Path) -> None:
    assert await wrong(stamped("http://127.0.0.1:9/", DIGEST, 7))


async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(time_stamps, "import_module", missing)
    with pytest.raises(NoLibrary):
        await stamped("http://127.0.0.1:9/", DIGEST, 7)
