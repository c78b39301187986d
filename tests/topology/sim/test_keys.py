"""Keys of a rehearsal: real ones, and the same in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from node.adapters.signing import Signer, Verifier
from node.core.envelope import KIND_DOCUMENT, encode_header, open_envelope
from node.core.errors import Refused
from node.core.identifier import OrgId
from tests.making import header
from topology.sim.keys import SharedVerifier, pair

ZONE = "dientap.truc.internal"


def test_a_node_of_the_rehearsal_signs_what_another_believes() -> None:
    node = OrgId.canonical("H41.07")
    mine = pair(node.dns_name(ZONE))
    signer, verifier = Signer(mine.certificate, mine.key), Verifier(mine.trust, ZONE)
    data = encode_header(header(OrgId.canonical("H54"), origin=node, key=signer.key_id, kind=KIND_DOCUMENT))
    verifier.verify(open_envelope(data, signer.sign(data), (OrgId.canonical("H54"),), (), 0), signer.chain_pem, 1_790_000_000_000)
    assert signer.sign(data) == signer.sign(data)


def test_another_process_makes_the_same_bytes() -> None:
    show = "print(hashlib.sha256(p.certificate + p.key + p.trust).hexdigest())"
    code = f"import hashlib, topology.sim.keys as k; p = k.pair('h41.x'); {show}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    mine = pair("h41.x")
    assert done.stdout.strip() == hashlib.sha256(mine.certificate + mine.key + mine.trust).hexdigest()


def test_a_chain_one_node_found_good_is_not_looked_into_again_by_another_but_a_bad_one_is() -> None:
    node = OrgId.canonical("H41.09")
    mine = pair(node.dns_name(ZONE))
    signer = Signer(mine.certificate, mine.key)
    head = header(origin=node, key=signer.key_id)
    with pytest.raises(Refused):
        SharedVerifier(mine.trust, ZONE).vouch(head, pair("h41.10").certificate)
    SharedVerifier(mine.trust, ZONE).vouch(head, signer.chain_pem)
    other = SharedVerifier(mine.trust, ZONE)
    other._judge_chain = None  # type: ignore[assignment,method-assign]  # whoever asks it now fails
    other.vouch(head, signer.chain_pem)
    with pytest.raises(Refused):
        SharedVerifier(mine.trust, ZONE).vouch(head, pair("h41.10").certificate)
