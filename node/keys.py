"""The keys of this node and what those of its neighbours are worth, put together from the configuration: certificates, roots,
revocation lists, and the warden that keeps them in step.

A part of the composition root. Knows the adapters of trust, the warden and the configuration; nothing of documents.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node import config
from node.adapters.enrolment import Run
from node.adapters.http import tls
from node.adapters.http.link_client import HttpLink
from node.adapters.issuing import Issuing
from node.adapters.lists import Lists
from node.adapters.peers import Peers
from node.core.identifier import OrgId
from node.core.standing import Signed, Standing
from node.ports import Clock
from node.warden import Warden

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
        self.ends_ms: dict[str, int] = {}
        self._own: tuple[Signed, ...] = ()
        self._read()

    def reload(self) -> None:
        """Read the files again. Raises `TlsFileError`, OSError and ValueError; then all is as before."""
        self.lists.reload()
        self._read()

    def standing(self) -> Standing:
        return self.lists.state(self._clock.utc_ms(), self._own)

    def judge(self, peers: Peers) -> tls.Judge:
        """Who bears a certificate, and whether it stands."""
        return tls.judge(peers, self._clock, self.lists.judge)

    def warden(
        self, peers: Peers, link: HttpLink | None, run: Run, rng: random.Random, session: str, sweep: Callable[[], int]
    ) -> Warden:
        section, zone = self._settings.link, self._settings.node.zone
        code, parent = OrgId.canonical(self._settings.node.code), OrgId.canonical(section.parent_code)
        own = Issuing(section.authority, zone, code) if section.authority is not None else None
        above = (parent, link) if link is not None else None

        def changes() -> int:
            peers.codes()  # a look at the file
            return peers.version

        return Warden(self._clock, self.lists, own, above, run, rng, session, sweep, changes, self.ends_ms)

    def _read(self) -> None:
        link = self._settings.link
        chain, roots = _certificates(link.certificate), _certificates(link.trust)
        found = {"link": chain[:1], "office": _certificates(self._settings.office.certificate)[:1], "root": roots}
        if link.authority is not None and (link.authority / "issuing.pem").is_file():
            found["authority"] = _certificates(link.authority / "issuing.pem")[:1]
        above = [root for root in roots if root.subject == chain[-1].issuer][:1]
        self._own = tls.signed_by([each.public_bytes(Encoding.DER) for each in (*chain, *above)])
        self.ends_ms |= {what: min(_ends_ms(each) for each in these) for what, these in found.items()}


def _certificates(pem: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.read_bytes())
    except ValueError as error:
        raise tls.TlsFileError(pem, "holds no PEM certificates") from error


def _ends_ms(certificate: x509.Certificate) -> int:
    return round(certificate.not_valid_after_utc.timestamp() * 1000)
