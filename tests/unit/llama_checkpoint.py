"""A small LLaMA-style checkpoint with random weights, and its forward pass written out plainly."""

import math

import torch

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "vocab_size": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "max_position_embeddings": 32,
    "architectures": ["LlamaForCausalLM"],
    "rope_scaling": None,
}


def checkpoint(config=CONFIG, gated=True):
    """Named tensors, float32."""
    source = torch.Generator().manual_seed(0)
    width, hidden, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    d = width // config["num_attention_heads"]
    inner, outer = width, d * config["num_key_value_heads"]

    def random(*shape):
        return torch.randn(shape, generator=source) / math.sqrt(shape[-1])

    tensors = {"model.embed_tokens.weight": 5 * random(vocabulary, width), "model.norm.weight": torch.ones(width) * 1.5}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        tensors |= {
            f"{at}input_layernorm.weight": 1 + random(width),
            f"{at}post_attention_layernorm.weight": 1 + random(width),
            f"{at}self_attn.q_proj.weight": 2 * random(inner, width),
            f"{at}self_attn.k_proj.weight": 2 * random(outer, width),
            f"{at}self_attn.v_proj.weight": random(outer, width),
            f"{at}self_attn.o_proj.weight": random(width, inner),
            f"{at}mlp.up_proj.weight": random(hidden, width),
            f"{at}mlp.down_proj.weight": random(width, hidden),
        }
        if gated:
            tensors[f"{at}mlp.gate_proj.weight"] = random(hidden, width)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = random(vocabulary, width)
    return tensors


def forward(tensors, symbols, config=CONFIG):
    """Logits (T, vocabulary) of symbols (T,), position by position and head by head, in float64."""
    tensors = {name: value.double() for name, value in tensors.items()}
    heads, kv_heads, width = config["num_attention_heads"], config["num_key_value_heads"], config["hidden_size"]
    d, tokens = width // heads, len(symbols)
    x = tensors["model.embed_tokens.weight"][symbols]

    def norm(values, name):
        mean = values.pow(2).mean(-1, keepdim=True)
        return values / (mean + config["rms_norm_eps"]).sqrt() * tensors[name]

    def turn(row, position):
        pairs = []
        for i in range(d // 2):
            angle = position * config["rope_theta"] ** (-2 * i / d)
            pairs.append((row[i], row[i + d // 2], math.cos(angle), math.sin(angle)))
        return torch.stack([a * c - b * s for a, b, c, s in pairs] + [b * c + a * s for a, b, c, s in pairs])

    act = {"silu": lambda values: values * torch.sigmoid(values), "relu": lambda values: values.clamp(min=0)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        normed = norm(x, f"{at}input_layernorm.weight")
        q, k, v = (normed @ tensors[f"{at}self_attn.{name}_proj.weight"].T for name in "qkv")
        joined = torch.zeros(tokens, width, dtype=torch.float64)
        for head in range(heads):
            own, shared = (
                slice(head * d, head * d + d),
                slice(head * kv_heads // heads * d, (head * kv_heads // heads + 1) * d),
            )
            for t in range(tokens):
                query = turn(q[t, own], t)
                scores = torch.stack([query @ turn(k[j, shared], j) for j in range(t + 1)]) / math.sqrt(d)
                joined[t, own] = scores.softmax(0) @ v[: t + 1, shared]
        x = x + joined @ tensors[f"{at}self_attn.o_proj.weight"].T
        normed = norm(x, f"{at}post_attention_layernorm.weight")
        neurons, f = normed @ tensors[f"{at}mlp.up_proj.weight"].T, act[config["hidden_act"]]
        gate = tensors.get(f"{at}mlp.gate_proj.weight")
        x = x + (f(neurons) if gate is None else f(normed @ gate.T) * neurons) @ tensors[f"{at}mlp.down_proj.weight"].T
    name = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return norm(x, "model.norm.weight") @ tensors[name].T
