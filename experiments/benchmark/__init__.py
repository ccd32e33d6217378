"""How fast it is and how far it scales, measured side by side: `python -m experiments.benchmark`. Nothing is asserted.

With --output it leaves all figures as `benchmark.json`, whose `ratios` may be quoted, and a page of them as
`benchmark.md`; with --scaling and --server, files of these names.

`task` starts a side, which is a fresh process, because TensorFlow's threads are process-wide. `sides` and `stores` are
what these processes run; `parts`, `suite` and `scaling` start them in turn and divide what they measured; `page` prints
it.
The parts of a usual call:

epoch: one epoch of the default CNN on one thread by Keras' `model.fit` as it comes, by `fit` tuned (oneDNN's kernels
    and many steps per call), by our compiled epoch, and where PyTorch is installed by its equivalent network in a plain
    eager loop. Each trains one epoch before the one that is timed: imports, tracing and first calls count for none.
    All of them add up loss and accuracy. Beside them the processor's limit: a large matrix product on one thread. What
    a side reaches of it is the operations of an epoch by its CPU seconds, by the limit's operations per CPU second: CPU
    time on both sides, because others may use the machine.
suite: all runs of the post's studies for one seed, each way whole. The post's way trains each run from scratch, one
    after another in one process, by plain `fit` on default threads, and tests it. Ours is the suite as it is recorded,
    once in each arithmetic, one worker per core: plan, starts, epochs, tests, cuts with their figures, and the store.
    What is divided are wall times of whole processes.
recording: what the recording process spends on a real run against what its training takes, the worker's peak memory,
    and the disk that a run needs before and after `gc`. Always on all images.
startup: the wall time of `fashion-cnn --help`, and the CPU time of a worker of the default CNN until its first epoch
    begins, forked from a template that has imported TensorFlow, and in a fresh process.
store: the wall time and memory of `fashion-cnn list` and `report` with 100 and 1,000 runs, which are made up: complete
    records, as `filling` says, so that the report takes every one. And of bringing the published runs into a new store.

--scaling measures two things instead, which take an hour:

workers: two trainings of the default CNN, ten epochs each, by one worker and by two, with the local executor and with
    Ray on this machine; all four in turn, again and again, and medians of their wall times. The speed-up is one
    worker's to two workers'; the efficiency is half of that. Ray's overhead is its one worker's wall time less the
    local one's, all of it: what a task costs besides its epochs, and epochs that take longer under Ray. Starting a
    cluster is left out.
store: what it takes to record one run, `fashion-cnn list` and `report` when the store holds 100, 1,000 and 10,000 runs
    already. These are made up; the runs that are timed are sent in full, with artifacts and model, after each event as
    the recorder does it. They were trained on few images, so that the report leaves out these ten at each size. With
    --postgres once more there; that database is asked for first, before an hour is spent.

--server URI measures such a store behind a tracking server, which must be empty, up to 1,000 runs; the time of each
includes what the server takes.
"""
