"""Great Expectations suites, the gate and the quarantine.

`suites` are the rules, `validation` asks Great Expectations, `quarantine` divides rows, `gate` decides.
"""
