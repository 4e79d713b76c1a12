"""The sample projects here are run by `test_same_outcomes.py`, each in a process of its own."""

collect_ignore_glob = ["*/*"]
