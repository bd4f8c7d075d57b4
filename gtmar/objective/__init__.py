"""How two candidates are compared: the objective metric, and the guardrails."""
