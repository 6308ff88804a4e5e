"""The worker: claims a job, starts its trainer, tells what it says, publishes what it makes. Opens no database.

client   the worker's side of /worker/v1
trainer  one trainer process: started, watched, stopped
runs     one job from claim to end
loop     claim after claim, until told to stop
cluster  claims placed in a Ray cluster
place    one rank of a run, on a node of it
"""
