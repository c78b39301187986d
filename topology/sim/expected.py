"""What a large batch of small seeds must have met at least once: a rehearsal in which something never happens says nothing of it.

Names of events only: "fault/…" went wrong, "path/…" is a way out that was taken, "office/…" what people and their programs did.
"""

from __future__ import annotations

from topology.sim.profile import CRASHES, OF_CERTIFICATES, OTHERS

HIT = (
    *("fault/power", "fault/killed", "fault/disk-read", "fault/disk-write", "fault/disk-sync", "fault/disk-full", "fault/flip"),
    *("fault/lost-request", "fault/lost-reply", "fault/torn-request", "fault/torn-reply", "fault/repetition", "fault/held-up"),
    *("fault/silence", "fault/spoilt", "fault/certificate refused"),
)
"""Faults that were not only planned but struck."""
PATHS = (
    *("path/duplicate on a link", "path/duplicate at a door", "path/digest conflict", "path/released"),
    *("path/body resumed", "path/recovered", "path/by its own signature"),
)
OFFICES = (
    *("office/no answer", "office/not reached", "office/told later", "office/hung up", "office/sent again", "office/slow"),
    *("office/crashed before processing", "office/crashed after processing", "office/failed", "office/done before fetch"),
)
MUST = (*(f"fault/{kind}" for kind in (*CRASHES, *OTHERS, *OF_CERTIFICATES)), *HIT, *PATHS, *OFFICES)
