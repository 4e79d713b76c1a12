"""Benchmarks of the farm, each variant side by side with its peers: `python -m benchmarks --help`.

The package lies in `tests/`, which has to be on the path. Each module measures one thing; its
variants take turns (A B C A B C …), so that a busy minute of the machine hits all of them alike.
"""
