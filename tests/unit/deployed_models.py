"""Small deployed models for tests: random weights, bytes, a text that repeats."""

import functools

import torch

from reluctant.golden.calibration import deploy
from reluctant.golden.deployed import DeployedModel
from reluctant.golden.language_model import LanguageModel, ModelConfig
from reluctant.golden.reference import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer
from reluctant.golden.trainer import TrainingConfig, train

SIZES = {"layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "width": 32, "hidden": 48}
CONTEXT = 24
TEXT = "the cat sat on the mat, and the dog lay on the log: a rat ran off; who saw it? " * 20


def language_model(kind: AttentionKind = AttentionKind.RELU_SUM, **changes) -> LanguageModel:
    """Random weights, larger than initial ones, so that attention matters; equal calls give equal models."""
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(**SIZES | changes, attention=kind)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embedding" not in name:
                parameter.mul_(2.0)
            if name.endswith(("theta", "sink")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@functools.cache
def trained_model() -> LanguageModel:
    """It knows the text by heart, so every head that does something is missed."""
    model = language_model()
    text = torch.frombuffer(bytearray(TEXT.encode()), dtype=torch.uint8)
    train(model, text, TrainingConfig(steps=80, batch=8, context=CONTEXT, rate=1e-2))
    return model.eval()


@functools.cache
def deployed_model(kind: AttentionKind = AttentionKind.RELU_SUM) -> DeployedModel:
    return deploy(language_model(kind, threshold=True), byte_tokenizer(), TEXT, context=CONTEXT)
