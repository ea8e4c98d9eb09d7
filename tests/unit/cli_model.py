"""A stand-in for the simulated unit: it answers a program with the integer model's results."""

import numpy as np
import torch

from reluctant.golden.integer import run_layer
from reluctant.golden.settings import LayerSettings
from reluctant.sim.run import Results, StepResult

FLAGS = ("masked", "null", "softmax", "fallback")
NUMBERS = ("exponent", "active", "mass", "weight_sum")
PIPELINE_WAIT = 40
"""Cycles that a step waits, beside its beats."""


class ModelUnit:
    """Replaces :class:`reluctant.runs.Simulator`; reads everything from the program, nothing from the command line.

    ``damage`` may change the results before they are given back: a function of the list of step results and of the
    dictionary of counters.
    """

    def __init__(self, damage=lambda steps, counters: None, errors=()):
        self.damage, self.errors = damage, errors
        self.configs, self.programs = [], []
        self.compiled = 0

    def compile(self):
        self.compiled += 1

    def run(self, config, program):
        self.configs.append(config)
        self.programs.append(program)
        job = program.steps[0].job
        settings = _settings(config, program, job)
        q, k, v = (
            torch.from_numpy(np.stack([getattr(step, name) for step in program.steps], axis=1))
            for name in ("queries", "keys", "values")
        )
        result = run_layer(settings, q, k, v)
        steps = [_step(result, token, job) for token in range(len(program.steps))]
        counters = _counters(config, result, len(steps), job.head_dim // config.lanes)
        self.damage(steps, counters)
        cycles = counters["BUSY_CYCLES"] + 10
        return Results(tuple(steps), (), (), counters, tuple(self.errors), cycles, cycles + 100)


def _settings(config, program, job):
    heads = [program.settings[0, head] for head in range(config.heads)]
    names = ("theta", "mode", "kappa", "min_active", "min_mass", "alpha", "sink")
    return LayerSettings(
        head_dim=job.head_dim,
        kv_heads=config.kv_heads,
        gain=tuple(head.gain or (0,) * job.head_dim for head in heads),
        mask=tuple(bool(job.mask >> head & 1) for head in range(config.heads)),
        normaliser=job.normaliser,
        **{name: tuple(getattr(head, name) for head in heads) for name in names},
    )


def _step(result, token, job):
    values = {name: getattr(result, name)[:, token].numpy().copy() for name in FLAGS}
    values |= {name: getattr(result, name)[:, token].numpy().astype(np.int64) for name in NUMBERS}
    output = result.output[:, token].numpy().copy() if job.sends_output else None
    return StepResult(**values, context=result.context[:, token].numpy().copy(), output=output, latency=100 + token)


def _counters(config, result, tokens, beats):
    keys, values = int((result.rows * ~result.masked).sum()), int(result.value_rows.sum())
    waits = PIPELINE_WAIT * tokens
    return {
        "BUSY_CYCLES": (keys + values) * beats + waits,
        "KEY_BEATS": keys * beats,
        "VALUE_BEATS": values * beats,
        "KEY_ROWS": keys,
        "VALUE_ROWS": values,
        "MASKED_HEADS": int(result.masked.sum()),
        "NULL_HEADS": int(result.null.sum()),
        "FALLBACKS": int(result.fallback.sum()),
        "SOFTMAX_HEADS": int(result.softmax.sum()),
        "JOBS": tokens,
        "INPUT_WAIT_CYCLES": 0,
        "OUTPUT_WAIT_CYCLES": 0,
        "PIPELINE_WAIT_CYCLES": waits,
    }
