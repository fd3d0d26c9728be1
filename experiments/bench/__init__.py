"""Whole training steps and single ops, side by side with peers, on the CPU:
``python -m experiments.bench --help``.

The peers beside jaxcnn are the same network written plainly and differentiated by ``jax.grad``,
flax, and PyTorch (contiguous, channels last, compiled). Every peer is proven to compute the same
loss and gradients before it is timed, and then they take turns, so that what the machine does
meanwhile falls on all alike.

``--json FILE`` hands the steps of one ``--model`` to other programs:
``{"model", "batch", "threads", "interrupted", "rows", "machine", "versions"}``. A row for each peer
has "name", "step_ms" (the median of the turns; also "step_ms_lower_quartile" and
"step_ms_upper_quartile"), "images_per_second", "temp_bytes" (what XLA sets aside while a step
runs), "kept_bytes" (from forward to backward), "compile_seconds", "loss_error", "gradient_error",
and in "note" why the peer was left out. What is not known is null, such as the bytes of PyTorch.

A peer that is not installed is left out. All of them: ``pip install -e '.[bench]'``; for PyTorch
without its gigabytes of CUDA, first
``pip install torch --index-url https://download.pytorch.org/whl/cpu``. ``torch.compile`` needs a
C++ compiler."""
