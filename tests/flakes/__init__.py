"""A corpus of small suites with known flakes, and how well they are found, judged and blamed.

`make flakes` runs all of it, beside what pytest's plugins find with as many rounds.
"""
