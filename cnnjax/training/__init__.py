"""Training: state, optimisers and schedules, the step, the loop, evaluation, checkpoints, logs.

A training loop of your own can be assembled from these parts, as in `experiments/own_loop.py`:

- `data_facts` and `build` make an `Experiment` from a config;
- `compile_program` combines it with data and devices into a `Program` (feed, step, measure, test);
- a `RunRecord` writes the `Checkpoints` and the `MetricsLog` of a run directory and calls the callbacks;
- `Progress` holds the progress of the training.

`run_training` is the loop of `cnnjax.train`. The public names are listed in `__init__.pyi`; each is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
