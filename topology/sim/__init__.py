"""The tree in one process under virtual time: the production code of every node, on a simulated loop, disk and network.

    loop.py       virtual time, numbered tasks, lives that end as a killed process does
    disk.py       what a machine's disk holds and what a power cut leaves (platter.py: one file of it); database.py, files.py:
                  SQLite and bodies on it
    network.py    calls that are lost, delayed, repeated, cut (lines.py: one direction); link.py: the nodes' own calls;
                  door.py: an office's call to a node's real office listener; shared.py: what all nodes
                  read alike, read once
    clocks.py     clocks that are wrong on purpose
    traffic.py    what is sent; offices.py: who sends and collects; ledger.py: what they saw; checkers.py: what must hold there;
                  audit.py: what must hold in the nodes' tables
    faults.py     what goes wrong, drawn per seed; upheaval.py: what operators change; watch.py: bad neighbours; profile.py: how
                  much of everything; expected.py: what a large batch must have met
    world.py      the nodes of one run; bench.py: with offices around them; run.py: one seed; campaign.py, worker.py: many;
                  country.py: a day of the whole country; mutants.py: planted bugs; keys.py, record.py

Nothing here reads the host's clock, randomness, threads or sockets: one seed is one trace.
"""
