"""Whether a score holds: intervals, null searches, stability, calibration, drift, decision."""
