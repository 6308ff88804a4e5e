"""The workers' protocol under /worker/v1; `control.runs` explains it."""
