"""Training: state, losses, optimisers and schedules, the step, the loop, evaluation, checkpoints, logs."""
