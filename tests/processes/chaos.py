"""What `scripts/chaos` runs: one campaign, its figures as a JSON line, exit code 1 if anything broke."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.processes.campaign import Campaign, Scale
from tests.processes.tree import Tree, missing


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Every office writes to every other while nodes are killed; then says what came of it.",
    )
    parser.add_argument("--documents", type=int, default=300, help="packages to send (default 300)")
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs to spread over them (default 30)")
    parser.add_argument("--minutes", type=float, default=15.0, help="the longest the sending may take (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="what is sent, and whom it strikes (default 1)")
    parser.add_argument("--hangups", type=float, default=0.03, help="share of calls the clients break off (default 0.03)")
    parser.add_argument("--dir", type=Path, help="a folder for the tree that is kept (default: a temporary one)")
    given = parser.parse_args()
    if why := missing():
        print(why, file=sys.stderr)
        return 69
    with tempfile.TemporaryDirectory(prefix="truc-chaos-") as temporary:
        with Tree(given.dir or Path(temporary) / "tree") as tree:
            campaign = Campaign(tree, Scale(given.documents, given.kills, given.minutes, given.hangups), given.seed)
            asyncio.run(campaign.run())
        wrong = campaign.judge()
    for sentence in wrong:
        print(f"BROKEN: {sentence}", file=sys.stderr)
    print(json.dumps({**campaign.summary(), "broken": len(wrong)}, ensure_ascii=False))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
