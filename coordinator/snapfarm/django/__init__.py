"""A test runner for `manage.py test`: TEST_RUNNER = "snapfarm.django.FarmRunner".

Only this package imports Django.
"""

from snapfarm.django.runner import FarmRunner, FarmRunnerMixin

__all__ = ["FarmRunner", "FarmRunnerMixin"]
