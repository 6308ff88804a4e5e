"""The worker: claims a job, starts its trainer, tells what it says, publishes what it makes. Opens no database.

client   the worker's side of /worker/v1
trainer  one trainer process: started, watched, stopped
runs     one job from claim to end
loop     claim after claim, until told to stop
"""
