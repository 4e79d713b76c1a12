"""What runs inside a worker process: rings, couriers, sensors and the agent.

Nothing in this package knows the coordinator: `snapfarm` imports `snapfarm_worker`, never the
reverse. The one language that both speak is `snapfarm_worker.wire`.

(PYTEST_DONT_REWRITE: pytest would warn that a worker had imported this already.)
"""
