"""Which names a site of a rehearsal may sign, and all certificates of a tree: one root for links, one for offices.

Authorities and leaves are made as `truc ca` makes them. Knows the model and `node.adapters.authority`; nothing of ports,
processes or of what a node does with its certificate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from node.adapters import authority
from node.adapters.folders import write
from node.core.identifier import OrgId, tops
from topology.model import Site, Tree

OFFICE_NAMES = ("localhost", "127.0.0.1", "::1")


def permitted_names(tree: Tree, site: Site) -> tuple[str, ...]:
    """The shortest list of DNS suffixes that holds every name of a site's subtree: H54 with K54 needs two."""
    if site.parent is None:
        return (tree.zone,)
    codes = (code for member in tree.subtree(site.code) for code in (member.code, *member.prefixes))
    return tuple(code.dns_name(tree.zone) for code in tops(codes))


def pin_in(certificate: Path) -> str:
    """The pin of the first certificate's key in a PEM file."""
    return authority.pin_of(authority.first(certificate))


def gather_roots(root: Path, folders: Sequence[Path]) -> None:
    """`ca.pem` of a tree that was enrolled: the root of its links, and the root that each node has for its office listener."""
    trust = (folders[0] / "trust.pem").read_text()
    offices = [folder / "ca" / "office-root.pem" for folder in folders]
    write(root / "ca.pem", trust + "".join(path.read_text() for path in offices if path.is_file()))


def certify(tree: Tree, root: Path, now: datetime) -> Mapping[OrgId, str]:
    """All authorities and leaves below the folder `root`; the pin of each site's link key."""
    pki = root / "pki"
    top = authority.root(pki / "root", "truc root", now)
    offices = authority.root(pki / "office-root", "truc office root", now)
    parents = {site.parent for site in tree.sites if site.parent is not None}
    issuers: dict[OrgId, authority.Authority] = {}
    pins: dict[OrgId, str] = {}
    trust = (pki / "root.pem").read_text()
    for site in tree.parents_first():
        folder = root / site.folder
        above = top if site.parent is None else issuers[site.parent]
        if site.code in parents or site.parent is None:
            name = f"truc issuing {site.folder}"
            permitted = permitted_names(tree, site)
            issuers[site.code] = authority.issuing(above, folder / "issuing", name, permitted, now)
        signer = issuers[site.code] if site.parent is None else above
        pins[site.code] = authority.node_certificate(signer, folder / "link", site.code.dns_name(tree.zone), now)
        authority.office_certificate(offices, folder / "office", OFFICE_NAMES, now)
        write(folder / "trust.pem", trust)
    write(root / "ca.pem", trust + (pki / "office-root.pem").read_text())
    return pins
