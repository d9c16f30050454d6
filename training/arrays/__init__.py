"""Training where all features lie in memory: how the models that ship are made.

Three stages with files between, so that one can run on another machine:

- `pack`: labels -> pictures and token ids, small enough to carry;
- `features`: -> features of many views of each, in large batches;
- `learn`: -> a caption model, which may learn from others too; Keras on JAX.

None of them needs TensorFlow. The last is the same model and the same losses as in
`captioner train`, on another backend and without a Python loop a clip.
`python -m training.cli.arrays` runs them.
"""
