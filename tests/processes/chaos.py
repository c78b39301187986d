"""What `scripts/chaos` runs: one campaign, its figures as a JSON line, exit code 1 if anything broke."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.processes.campaign import Campaign, Scale
from tests.processes.storm import KINDS, available
from tests.processes.tree import Tree, missing

DOCUMENTS = 300
PER_MINUTE = 100
KILLS = 30
MINUTES = 15.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Every office writes to every other while faults strike nodes, disks, lines and clocks; then says what came"
        " of it. With --kills: kills and pauses only, until so many have been killed. With --minutes alone: every kind of fault"
        " that this machine can do (as root, more of them), for so long.",
    )
    parser.add_argument("--documents", type=int, help=f"packages to send (default {DOCUMENTS}, or {PER_MINUTE} a minute)")
    parser.add_argument("--kills", type=int, help=f"SIGKILLs to spread over them (default {KILLS})")
    parser.add_argument("--minutes", type=float, help=f"how long faults strike; with --kills, at most (then default {MINUTES:g})")
    parser.add_argument("--faults", help=f"which kinds strike, by commas, out of: {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=1, help="what is sent, and whom it strikes (default 1)")
    parser.add_argument("--hangups", type=float, default=0.03, help="share of calls the clients break off (default 0.03)")
    parser.add_argument("--dir", type=Path, help="a folder for the tree that is kept (default: a temporary one)")
    given = parser.parse_args()
    unknown = set(given.faults.split(",") if given.faults else ()) - set(KINDS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    return given


def scale_of(given: argparse.Namespace) -> Scale:
    """What to do, and on stderr what this machine cannot do of it."""
    timed = given.minutes is not None and given.kills is None
    minutes = MINUTES if given.minutes is None else given.minutes
    wanted = given.faults.split(",") if given.faults else KINDS if timed else ("kill", "pause")
    kinds, lacking = available(wanted)
    for kind, why in lacking.items():
        print(f"not run: {kind}: {why}", file=sys.stderr)
    documents = given.documents or (max(1, round(PER_MINUTE * minutes)) if timed else DOCUMENTS)
    return Scale(documents, given.kills or KILLS, minutes, given.hangups, tuple(kinds), timed)


def main() -> int:
    given = arguments()
    if why := missing():
        print(why, file=sys.stderr)
        return 69
    scale = scale_of(given)
    if not scale.kinds:
        return 69
    with tempfile.TemporaryDirectory(prefix="truc-chaos-") as temporary, Tree(given.dir or Path(temporary) / "tree") as tree:
        campaign = Campaign(tree, scale, given.seed)
        asyncio.run(campaign.run())
        tree.stop()
        wrong, figures = campaign.judge(), campaign.summary()
    for sentence in wrong:
        print(f"BROKEN: {sentence}", file=sys.stderr)
    print(json.dumps({**figures, "broken": len(wrong)}, ensure_ascii=False))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
