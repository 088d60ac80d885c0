"""Has the world moved since the live model learnt? Evidently reports, and the policy that judges them.

`run.monitor` is the way in. Thresholds are in `params.yaml`. Nothing here starts a training: the flow does,
if the verdict says so.
"""
