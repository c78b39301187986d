"""The command `truc`: one file per noun, Vietnamese first, heavy imports inside the commands.

`root.py` lists the commands, `face.py` is how help and errors read, `talk.py` how a command speaks, `desk.py` how it asks the
running node. Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 failed, 2 usage, 69 node not running, 75 try later,
77 not allowed, 78 bad configuration.
"""
