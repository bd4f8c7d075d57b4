"""Whether a found score holds: intervals, null searches, stability, and the decision."""
