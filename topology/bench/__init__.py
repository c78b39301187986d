"""`truc bench`: how fast documents go through real nodes on this machine, and what that costs them.

A hub with a sender's node and receivers' nodes below it (`stand`), all processes of their own with the certificates of a sandbox.
Offices hand packages in and collect them (`doors`), what they write is numbered (`letters`), what arrives is judged: a document
that is missing, doubled or changed ends the run (`arrivals`). A workload is a function (`workloads`), `run` repeats it and puts
the figures together (`figures`). Knows a node only by its office doors, its admin listener and /proc.
"""
