"""Does the loop pay? A data set's real events, played in order of time, under several policies of retraining.

`run.replay` is the way in; `over_http.play` plays against an endpoint that runs. `policies` are pure functions, and
`monitored.Platform.drifted` is the one place that calls the monitor.
"""
