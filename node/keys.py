"""The keys of this node and what those of its neighbours are worth, put together from the configuration: certificates, roots,
revocation lists, and the warden that keeps them in step.

A part of the composition root. Knows the adapters of trust, the warden and the configuration; nothing of documents.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node import config
from node.adapters.directory_file import DirectoryFileError
from node.adapters.discovery import Announcement, find
from node.adapters.enrolment import Renewals, Request, Run
from node.adapters.folders import BadFile
from node.adapters.http import tls
from node.adapters.http.link_client import HttpLink
from node.adapters.issuing import Issuing
from node.adapters.lists import Lists
from node.adapters.own_keys import Files, OwnKeys
from node.adapters.peers import Peers
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import Signed, Standing
from node.forwarder import Forwarder
from node.ports import Clock
from node.renewal import Renewal
from node.seeker import Seeker
from node.warden import Warden

log = structlog.get_logger()

RETRY_S = 60.0
DAY_MS = 86_400_000


class Keys:
    """lists: the revocation lists that this node knows. ends_ms: when each certificate that it stands on ends, UTC; of its
    listeners, its authority, and the first of the roots. Raises `tls.TlsFileError` where a file cannot be read."""

    def __init__(self, settings: config.NodeConfig, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        trust = settings.link.trust
        try:
            self.lists = Lists(settings.node.data_dir / "lists.json", trust, int(settings.link.lists_grace_d * DAY_MS))
        except (OSError, ValueError) as error:
            raise tls.TlsFileError(trust, f"no PEM certificates can be read from it ({error})") from error
        link, dns = settings.link, OrgId.canonical(settings.node.code).dns_name(settings.node.zone)
        others = (settings.office.certificate, settings.office.key)
        files = Files(link.certificate, link.key, link.trust, settings.node.data_dir / "keys.json", others)
        self.own = OwnKeys(files, dns, link.parent_pins)
        self._link: HttpLink | None = None
        self.ends_ms: dict[str, int] = {}
        self._own: tuple[Signed, ...] = ()
        self._read()

    def reload(self) -> None:
        """Read the files again. Raises `TlsFileError`, OSError and ValueError; then all is as before."""
        self.lists.reload()
        self._read()

    def standing(self) -> Standing:
        found = self.lists.state(self._clock.utc_ms(), self._own)
        return replace(found, revoked=found.revoked or (self._link is not None and self._link.revoked))

    def judge(self, peers: Peers) -> tls.Judge:
        """Who bears a certificate, and whether it stands."""
        return tls.judge(peers, self._clock, self.lists.judge)

    def warden(
        self,
        peers: Peers,
        link: HttpLink | None,
        run: Run,
        ground: tuple[random.Random, str],
        sweep: Callable[[], int],
        reload: Callable[[], None],
    ) -> Warden:
        """ground: chance, and a word for this process. sweep: cuts who may no longer be connected. reload: takes files up."""
        settings, section = self._settings, self._settings.link
        self._link = link
        code, parent = OrgId.canonical(settings.node.code), OrgId.canonical(section.parent_code)
        issuing = Issuing(section.authority, settings.node.zone, code) if section.authority is not None else None
        office = (settings.office.certificate, settings.office.key)
        wish = settings.node.data_dir / "renew"
        rng, session = ground
        renewal = Renewal(self._clock, rng, run, self.own, issuing, link, self.ends_ms, reload, wish, office, section.keys_ask_s)
        renewals = Renewals(issuing, section.peers, settings.node.directory) if issuing is not None else None
        below = Below(peers, issuing, renewals, renewal, run, self._clock)
        above = (parent, link) if link is not None else None

        def changes() -> int:
            peers.codes()  # a look at the file
            return peers.version

        lists = self.lists
        sides = (renewal, below, section.keys_ask_s)
        return Warden(self._clock, lists, issuing, above, run, rng, session, sweep, changes, self.ends_ms, *sides)

    def _read(self) -> None:
        link = self._settings.link
        chain, roots = _certificates(link.certificate), _certificates(link.trust)
        found = {"link": chain[:1], "office": _certificates(self._settings.office.certificate)[:1], "root": roots}
        if link.authority is not None and (link.authority / "issuing.pem").is_file():
            found["authority"] = _certificates(link.authority / "issuing.pem")[:1]
        above = [root for root in roots if root.subject == chain[-1].issuer][:1]
        self._own = tls.signed_by([each.public_bytes(Encoding.DER) for each in (*chain, *above)])
        self.ends_ms |= {what: min(_ends_ms(each) for each in these) for what, these in found.items()}


def discovery(
    settings: config.NodeConfig, link: HttpLink | None, rng: random.Random, forwarder: Forwarder
) -> tuple[Announcement, list[Callable[[], Coroutine[Any, Any, None]]]]:
    """How this node is found in the local network, and what looks for its parent there; where it wants to."""
    section, zone = settings.link, settings.node.zone
    announcement = Announcement(zone, settings.node.code, wanted=section.discovery)
    if link is None or not announcement.wanted:
        return announcement, []
    above = forwarder.neighbours[OrgId.canonical(section.parent_code)]
    return announcement, [Seeker(link, partial(find, zone, section.parent_code), lambda: not above.up, rng).run]


class Below:
    """What the nodes below are told of keys, and the renewal of theirs."""

    def __init__(
        self, peers: Peers, issuing: Issuing | None, renewals: Renewals | None, renewal: Renewal, run: Run, clock: Clock
    ) -> None:
        self._peers = peers
        self._issuing = issuing
        self._renewals = renewals
        self._run = run
        self._clock = clock
        self._one = asyncio.Lock()
        self._stamp: tuple[int, ...] = ()
        self._issuer: bytes | None = None
        self.told = renewal.told

    def stale(self, chain: Sequence[bytes]) -> bool:
        """Whether this node would sign otherwise today what a child has shown (DER, leaf first)."""
        if self._issuing is None or not self._issuing.ready() or len(chain) < 2:
            return False
        stamp = self._issuing.stamp()
        if stamp != self._stamp:
            try:
                self._stamp, self._issuer = stamp, self._issuing.certificate()
            except (BadFile, OSError):
                return False
        return chain[1] != self._issuer

    async def renew(self, peer: OrgId, chain: Sequence[bytes], csr: str, authority_csr: str) -> tuple[str, str]:
        """One at a time. Raises Refused and Deferred."""
        renewals = self._renewals
        if renewals is None:
            raise Refused(Reason.OPERATION_UNKNOWN, "renew")
        shown, now_ms = tls.spki_pin(chain[0]), self._clock.utc_ms()
        known = self._peers[tls.peer_name(chain[0])][1]
        asked = Request(b"", csr, authority_csr)
        async with self._one:
            try:
                return await self._run(lambda: renewals.renew(peer, shown, known, asked, now_ms))
            except (BadFile, DirectoryFileError, OSError) as error:
                log.error("certificate not renewed for a node below, a file is at fault", reason=str(error)[:500])
                raise Deferred(RETRY_S) from None


def _certificates(pem: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.read_bytes())
    except ValueError as error:
        raise tls.TlsFileError(pem, "holds no PEM certificates") from error


def _ends_ms(certificate: x509.Certificate) -> int:
    return round(certificate.not_valid_after_utc.timestamp() * 1000)
