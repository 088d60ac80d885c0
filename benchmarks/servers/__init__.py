"""The servers that ours is measured beside, a file each; `run.py` starts one, measures it and ends it.

Two say hello: what BentoML and Starlette cost by themselves. Two serve the same trained model as ours, behind LitServe
and Ray Serve, in an environment of their own (`environment.py`). `package.py` makes what they serve.
"""
