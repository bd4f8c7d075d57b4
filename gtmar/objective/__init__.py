"""What decides between two candidates: the objective metric, and the guardrails beside it."""
