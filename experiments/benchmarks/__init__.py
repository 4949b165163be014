"""Speed, side by side: cnnjax, plain Flax, PyTorch and Keras on the same networks, on this machine.

    python -m experiments.benchmarks.train_step     a training step; the latency of one image; throughput
    python -m experiments.benchmarks.epoch          a whole epoch of `cnnjax train` against its bare steps
    python -m experiments.benchmarks.start          from the command to the end of the first step, cold and warm
    python -m experiments.benchmarks.devices        a training step on 1, 2 and 4 virtual devices of the CPU
    python -m experiments.benchmarks.seeds          K seeds one after the other and by `vmap`
    python -m experiments.benchmarks.gpu            on a GPU, within minutes: steps beside torch.compile and bounds, epochs, seeds
    python -m experiments.benchmarks.streaming      images/s that are read, decoded and cropped, beside DataLoader, TFDS and grain

Each takes `--help`. What is compared runs in processes of its own that take turns, one at a time, round after round, so
that a machine that grows slower grows slower for all; `measurement.py` says how. PyTorch is the extra `[bench]`; a package
that is not installed is said and left out.
"""
