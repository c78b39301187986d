"""The tree in one process under virtual time: the production code of every node, on a simulated loop, disk and network.

    loop.py       virtual time, numbered tasks, lives that end as a killed process does
    disk.py       what a machine's disk holds and what a power cut leaves; database.py, files.py: SQLite and bodies on it
    network.py    links that lose, delay, repeat, cut; door.py: an office's call to a node's real office listener
    clocks.py     clocks that are wrong on purpose
    traffic.py    what is sent; offices.py: who sends and collects; ledger.py: what they saw; checkers.py: what must hold
    faults.py     what goes wrong, drawn per seed; profile.py: how much of everything
    world.py      the nodes of one run; run.py: one seed, many seeds, their summary; mutants.py: planted bugs

Nothing here reads the host's clock, randomness, threads or sockets: one seed is one trace.
"""
