"""Reports: one model of a run, and pure functions that turn it into text and files."""
