"""Great Expectations suites, the gate and the quarantine."""
