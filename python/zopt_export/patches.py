"""PyTorch functions as they must be while a model is exported: attention's dropout and the dropout of whole channels as Dropout nodes."""
import contextlib
import math
from unittest import mock

import torch
from torch.nn import functional


def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """scaled_dot_product_attention as its documentation spells it, with dropout of the probabilities."""
    scale = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    scores = query @ key.transpose(-2, -1) * scale
    if is_causal:
        attn_mask = torch.ones(query.size(-2), key.size(-2), dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        scores = torch.where(attn_mask, scores, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return functional.dropout(scores.softmax(-1), dropout_p, True) @ value


def subtract_from(self, other, original=torch.Tensor.__rsub__):
    """other - self. torch.onnx has no conversion of a float minus an integer tensor (`1.0 - attention_mask`), but one of its negation plus the float, which is the same number."""
    if isinstance(other, float) and not self.is_floating_point() and not self.is_complex():
        return -self.to(torch.get_default_dtype()) + other
    return original(self, other)


@contextlib.contextmanager
def for_export(spell=False):
    """Within it: attention with dropout (`spell`: all) is spelled out, dropout1d to 3d drop by a mask of channels, and encoder layers take no path for inference. Yields a list of what was spelled out."""
    spelled = []
    fused = functional.scaled_dot_product_attention

    def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        if dropout_p > 0 or spell:
            spelled.append(tuple(query.shape))
            return attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
        return fused(query, key, value, attn_mask=attn_mask, dropout_p=0.0, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa)

    def channels(axes):
        def drop(input, p=0.5, training=True, inplace=False):
            if not training or p == 0:
                return input
            lead = input.shape[:input.dim() - axes]
            return input * functional.dropout(input.new_ones(lead + (1,) * axes), p, True)
        return drop

    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(functional, "scaled_dot_product_attention", attention))
            # nn.Transformer looks into a mask for whether it is causal, which a trace cannot; the mask itself says the same.
            stack.enter_context(mock.patch.object(torch.nn.modules.transformer, "_detect_is_causal_mask", lambda mask, is_causal=None, size=None: is_causal is True))
            stack.enter_context(mock.patch.object(torch.Tensor, "__rsub__", subtract_from))
            for axes in (1, 2, 3):
                stack.enter_context(mock.patch.object(functional, f"dropout{axes}d", channels(axes)))
            yield spelled
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)
