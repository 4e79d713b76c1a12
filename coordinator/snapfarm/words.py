"""Words that the commands of the farm say to its pytest plugin."""

from __future__ import annotations

#: The value of `--farm` that leaves the number of workers to the configuration.
CONFIGURED = "configured"
