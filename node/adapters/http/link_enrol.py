"""`POST /link/v1/enrol`: the one call of the link that needs no certificate, both ends of it on the wire.

A newcomer shows the secret of its token and its requests (CSR); it gets its certificates, the roots and the directory, or hears
that a person has to approve first. Small, rate-limited, one at a time; the secret is in no log, no error and no answer. Knows
`core` and how often strangers may ask; what an invitation allows is decided behind `Answerer`.

    request   {"secret": hex, "csr": PEM, "authority_csr": PEM or ""}
    answer    {"state": "waiting", "code": "H41", "retry_s": 2}
              {"state": "granted", "code": …, "certificate": PEM, "authority": PEM or "", "trust": PEM, "directory": text}
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from node.adapters.http.sockets import neighbourhood
from node.core.enrolment import SECRET_BYTES, Allowance
from node.core.envelope import Fields, strict_json
from node.core.errors import Deferred, Reason, Refused

ENROL = ("POST", "/link/v1/enrol")
REQUEST_BYTES_MAX = 24 * 1024
CSR_CHARS_MAX = 8192
RETRY_S = 2.0
BURST, PER_S, ADDRESSES_MAX = 10, 1.0, 1024
BURST_OF_ALL, PER_S_OF_ALL = 40, 10.0

_SECRET = re.compile(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}")

Answerer = Callable[[bytes, str, str], Awaitable[dict[str, Any]]]
"""(secret, request for the link, request for an authority or "") -> the answer's fields; raises Refused and Deferred."""


class NewcomersDoor:
    """The parent's side. answerer: asked for one newcomer at a time."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._one = asyncio.Lock()
        self._each = Allowance(BURST, PER_S, ADDRESSES_MAX)
        self._all = Allowance(BURST_OF_ALL, PER_S_OF_ALL, 1)

    def admit(self, address: str) -> None:
        """`Deferred` where this address (of IPv6 its /64), or all together, ask too often; before a byte of the body is read."""
        now_s = asyncio.get_running_loop().time()
        if not self._each.take(neighbourhood(address), now_s) or not self._all.take("", now_s):
            raise Deferred(RETRY_S)

    async def answer(self, body: bytes) -> dict[str, Any]:
        """The answer to a request. Raises what the answerer raises, and `Refused(WIRE_MALFORMED)` without what was sent."""
        secret, csr, below = read_request(body)
        async with self._one:
            return await self._answerer(secret, csr, below)


def read_request(body: bytes) -> tuple[bytes, str, str]:
    """Secret, request, request for an authority. `Refused(WIRE_MALFORMED)` names the field and repeats nothing of it."""
    try:
        fields = Fields(strict_json(body), "enrol")
        fields.only(frozenset({"secret", "csr", "authority_csr"}))
        secret = bytes.fromhex(fields.text("secret", 2 * SECRET_BYTES, _SECRET))
        return secret, fields.text("csr", CSR_CHARS_MAX), fields.text("authority_csr", CSR_CHARS_MAX)
    except Refused as refused:
        raise Refused(Reason.WIRE_MALFORMED, refused.element[:40]) from None
