"""`truc sandbox --json` with the stand-in for nodes: rehearse.py DIR TOPOLOGY."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from topology.local import Sandbox, SandboxError

if __name__ == "__main__":
    fake = (sys.executable, str(Path(__file__).with_name("fake_node.py")))
    sandbox = Sandbox(
        Path(sys.argv[1]), Path(sys.argv[2]), command=fake, say=lambda vi, en: print(vi, file=sys.stderr, flush=True)
    )
    try:
        sandbox.run(lambda ready: print(json.dumps(ready), flush=True))
    except SandboxError as error:
        sys.exit(str(error))
