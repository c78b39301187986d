"""Dấu thời gian (RFC 3161): asking an authority that this node's owner trusts to stamp a file, and judging such a stamp later.

What the authority signs is the file's SHA-256 and the time; neither the file nor anything of it leaves this machine. The answer
is kept as it came, in DER, so that other programs (`openssl ts -verify`) read it, too. Its forms, the signature and the
certificates are pyHanko's matter, which is loaded only here and only where it is wanted; it belongs to the extra `truc[tsa]`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import aiohttp

ASK_S = 10.0
STAMP_BYTES_MAX = 64 * 1024
"""Of an answer: a signature and some certificates."""
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"
GRANTED = ("granted", "granted_with_mods")


class NoLibrary(Exception):
    """pyHanko is not installed beside truc."""


class BadStamp(Exception):
    """There is no stamp, or it proves nothing. why: short, in English."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Stamp:
    """at_ms: when the authority saw the digest, by its clock. by: the authority's name."""

    at_ms: int
    by: str


async def stamped(url: str, digest: bytes, nonce: int) -> bytes:
    """The authority's answer for a SHA-256 digest, DER; `BadStamp` where there is none. nonce: a fresh number, by which it is
    known to be for this question."""
    tsp = _library("asn1crypto.tsp")
    imprint = {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": digest}
    question = tsp.TimeStampReq({"version": "v1", "message_imprint": imprint, "nonce": nonce, "cert_req": True}).dump()
    try:
        async with (
            asyncio.timeout(ASK_S),
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.post(url, data=question, headers={"Content-Type": QUERY}, allow_redirects=False) as answer,
        ):
            if answer.status != 200 or answer.content_type != REPLY:
                raise BadStamp(f"answers {answer.status} {answer.content_type}"[:100])
            data = b""
            while (more := await answer.content.read(STAMP_BYTES_MAX)) and len(data) <= STAMP_BYTES_MAX:
                data += more
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise BadStamp(str(error)[:100] or "no answer") from None
    said = _said(data)["encap_content_info"]["content"].parsed
    if said["nonce"].native != nonce or said["message_imprint"]["hashed_message"].native != digest:
        raise BadStamp("is for another question")
    return data


def judged(answer: bytes, digest: bytes, roots_pem: bytes) -> Stamp:
    """What an authority under one of these roots (PEM) has signed of a SHA-256 digest, or `BadStamp`. Judged as of the instant it
    states: whether a certificate was revoked since is not asked."""
    cms, x509, pem = (_library(name) for name in ("pyhanko.sign.validation.generic_cms", "asn1crypto.x509", "asn1crypto.pem"))
    context = _library("pyhanko_certvalidator").ValidationContext
    logging.getLogger("pyhanko").setLevel(logging.CRITICAL + 1)  # it would tell at length what is told in one line here
    signed = _said(answer)
    at = signed["encap_content_info"]["content"].parsed["gen_time"].native
    try:
        roots = [x509.Certificate.load(der) for _, _, der in pem.unarmor(roots_pem, multiple=True)]
    except ValueError:
        raise BadStamp("the authority's root cannot be read") from None
    try:
        under = context(trust_roots=roots, allow_fetching=False, moment=at)
        said = asyncio.run(cms.validate_tst_signed_data(signed, under, expected_tst_imprint=lambda algorithm: digest))
    except Exception as error:  # whatever a library that reads a stranger's signature may raise, it proves nothing
        raise BadStamp(type(error).__name__) from None
    algorithm = signed["encap_content_info"]["content"].parsed["message_imprint"]["hash_algorithm"]["algorithm"].native
    for good, why in (
        (algorithm == "sha256" and said["intact"], "is for another file"),
        (said["valid"], "its signature is not right"),
        (said["trust_problem_indic"] is None and said["validation_path"] is not None, "its certificate is not good"),
    ):
        if not good:
            raise BadStamp(why)
    return Stamp(int(at.timestamp() * 1000), str(said["signing_cert"].subject.human_friendly))


def _said(answer: bytes) -> Any:
    """The signed part of an answer that grants a stamp."""
    tsp, core = _library("asn1crypto.tsp"), _library("asn1crypto.core")
    if len(answer) > STAMP_BYTES_MAX:
        raise BadStamp(f"> {STAMP_BYTES_MAX} B")
    try:
        said = tsp.TimeStampResp.load(answer, strict=True)
        if said["status"]["status"].native not in GRANTED:
            raise BadStamp(str(said["status"]["status"].native))
        signed = said["time_stamp_token"]["content"]
        if not isinstance(signed["encap_content_info"]["content"], core.ParsableOctetString):
            raise BadStamp("is no time stamp")
        if not isinstance(signed["encap_content_info"]["content"].parsed, tsp.TSTInfo):
            raise BadStamp("is no time stamp")
    except (ValueError, TypeError, KeyError) as error:
        raise BadStamp(type(error).__name__) from None
    return signed


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise NoLibrary from None
