"""What a block of `learned` needs of arithmetic, as machine code by numba.

Each function calculates what its namesake in `draws`, `surrogate` or `planning` does, the same
operations in the same order. numba contracts no multiplication and addition into one rounding and
adds in no other order unless asked to, so every double is the one that numpy's loops give; tests
compare bit by bit. All arrays are C-contiguous, so that there is one version of each function.

No function here calls one of another module: numba keeps what it compiled beside each module, and
doesn't see that something it took in from elsewhere has changed. So `surface` and `steps` each have
sums, products and systems of their own: for many results and for a few weights.
"""
