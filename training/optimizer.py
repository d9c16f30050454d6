"""The optimiser of every training: AdamW, its rate rising linearly, then falling along a cosine."""

import keras


def adamw(
    steps: int,
    learning_rate: float,
    weight_decay: float,
    warmup_steps: int | None = None,
    clipnorm: float | None = None,
    global_clipnorm: float | None = None,
    averaged: bool = False,
) -> keras.optimizers.AdamW:
    """AdamW (Loshchilov and Hutter 2019) for a training of so many steps.

    Args:
        steps: of the whole training; the rate is 0 after them.
        learning_rate: at its peak.
        weight_decay: times the rate, taken off each weight in a step.
        warmup_steps: until the peak; by default a twentieth of all.
        clipnorm: largest norm of the gradient of each variable.
        global_clipnorm: largest norm of all gradients together.
        averaged: whether it keeps a moving average of the weights (Polyak and Juditsky 1992), over
            about the last twentieth of the steps.
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps,
        warmup_target=learning_rate,
        warmup_steps=max(1, steps // 20) if warmup_steps is None else warmup_steps,
    )
    return keras.optimizers.AdamW(
        schedule,
        weight_decay=weight_decay,
        clipnorm=clipnorm,
        global_clipnorm=global_clipnorm,
        use_ema=averaged,
        ema_momentum=max(0.0, 1 - 20 / steps) if averaged else 0.99,
    )
