"""Training: state, optimisers and schedules, the step, the loop, evaluation, checkpoints, logs.

The parts of a loop of your own, as `experiments/own_loop.py` joins them: `data_facts` and `build` make an `Experiment` of a config;
`compile_program` joins it with data and devices to a `Program` (feed, step, measure, test); a `RunRecord` keeps `Checkpoints` and
the `MetricsLog` of a run directory and tells the callbacks; `Progress` is where training stands. `run_training` is the loop
of `cnnjax.train`.

The names are those of `__init__.pyi`; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
