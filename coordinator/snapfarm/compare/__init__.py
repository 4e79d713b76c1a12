"""`farm compare`: the same suite with plain pytest, with pytest-xdist and on a farm, side by side.

record.py      what a run is told, and what it writes down: one line for each report
plugin.py      the pytest plugin that is told, and writes
processes.py   wall time, CPU and memory of a tree of processes
runs.py        one run of a suite, in a folder of its own
verdict.py     pure: what is equal, what differs, what is unstable
text.py        pure: what is printed
"""
