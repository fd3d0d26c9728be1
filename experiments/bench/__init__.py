"""Whole training steps and single ops, side by side with peers, on the CPU: ``python -m experiments.bench --help``.

The peers are jaxcnn, the same network written plainly and differentiated by ``jax.grad``, flax, and PyTorch (contiguous, channels last, compiled). Every peer is proven to
compute the same loss and gradients before it is timed, and then they take turns, so that what the machine does meanwhile falls on all alike.

A peer that is not installed is left out. All of them: ``pip install -e '.[bench]'``; for PyTorch without its gigabytes of CUDA, first
``pip install torch --index-url https://download.pytorch.org/whl/cpu``. ``torch.compile`` needs a C++ compiler.
"""
