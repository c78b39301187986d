"""Keys of a rehearsal: real ones, and the same in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

from node.adapters.signing import Signer, Verifier
from node.core.envelope import KIND_DOCUMENT, open_envelope
from node.core.identifier import OrgId
from tests.making import header
from topology.sim.keys import pair

ZONE = "dientap.truc.internal"


def test_a_node_of_the_rehearsal_signs_what_another_believes() -> None:
    node = OrgId.canonical("H41.07")
    mine = pair(node.dns_name(ZONE))
    signer, verifier = Signer(mine.certificate, mine.key), Verifier(mine.trust, ZONE)
    data = header(origin=node, key=signer.key_id, kind=KIND_DOCUMENT)
    verifier.verify(open_envelope(data, signer.sign(data), (OrgId.canonical("H54"),), (), 0), signer.chain_pem, 1_790_000_000_000)
    assert signer.sign(data) == signer.sign(data)


def test_another_process_makes_the_same_bytes() -> None:
    code = "import hashlib, topology.sim.keys as k; p = k.pair('h41.x'); print(hashlib.sha256(p.certificate + p.key + p.trust).hexdigest())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    mine = pair("h41.x")
    assert done.stdout.strip() == hashlib.sha256(mine.certificate + mine.key + mine.trust).hexdigest()
