"""The tree as data and as a rehearsal: read from TOML, checked, rendered into one folder per site, run as processes.

May use `node.core` and `node.config`; the nodes know nothing of it.
"""
