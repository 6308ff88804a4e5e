"""Hand-written forward and backward passes of the parts a training step spends its time in."""
