"""How we judge: suites, rollout, statistics, studies, tracking and report."""
