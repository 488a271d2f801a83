//===- RaisingPasses.td - from expansions to one op ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Exporters spell one layer in many ways. These passes find what was meant, so that autodiff, kernels and libraries see `attention` and not twelve ops. All expect the forward
// level and leave it. A pass does nothing where a condition is not proven; an expansion that stays is correct, only slower. "One rounding fewer" below means that intermediate
// results, which the expansion rounds to their type, stay in the compute type inside one op.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_RAISINGPASSES_TD
#define ZOPT_TRANSFORMS_RAISINGPASSES_TD

include "mlir/Pass/PassBase.td"

class RaisingPass<string argument> : Pass<argument, "mlir::func::FuncOp"> {
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def SimplifyMovement : RaisingPass<"zopt-simplify-movement"> {
  let summary = "Remove ops that move or change nothing";
  let description = [{
    Works at every level. Folds reshapes of reshapes and transposes of transposes. Of a transpose between two reshapes, the second of which only takes axes apart, the second goes: axes are apart
    before they move (and if they were apart to begin with, the first goes too). A slice of everything, a product with 1, a quotient by 1 and a conjunction with what is true everywhere disappear.

    Never moves an element that was not moved before. Numerics: bitwise.
  }];
}

def RaiseLinear : RaisingPass<"zopt-raise-linear"> {
  let summary = "Give every matrix product its bias, scale and transpositions";
  let description = [{
    Does what `zopt-simplify-movement` does, and brings `train.matmul` into one form:

    - a reshape that only joins leading axes before a product with a matrix, and the reshape that takes them apart behind it, disappear: the left operand keeps its axes;
    - a transpose that exchanges the last two axes of an operand becomes a flag (what other axes it moves stays a transpose);
    - a factor on an operand, and on the result of a product without bias, becomes the scale;
    - a vector that is added to the result of a product with a matrix becomes the bias, where the product has no other use.

    Never duplicates a product. Numerics: up to reassociation (a scale is applied to the sum, not to the operands; a bias is added before the result is rounded: one rounding fewer);
    bitwise where there is neither.
  }];
}

def RaiseLayerNorm : RaisingPass<"zopt-raise-layer-norm"> {
  let summary = "Raise (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * gamma + beta to train.layer_norm";
  let description = [{
    Over the last axis, in any order of operands; the root by Sqrt and Div, Reciprocal or Rsqrt, or Pow. Gamma and beta are vectors (parameters may have leading axes of 1); either may be missing, and those
    behind a `train.layer_norm` that has none are taken in too, where nothing else uses its result.

    Never raises a norm over other axes or with an unbiased variance. Numerics: up to reassociation, fewer roundings.
  }];
}

def RaiseRMSNorm : RaisingPass<"zopt-raise-rms-norm"> {
  let summary = "Raise x / sqrt(mean(x^2) + epsilon) * gamma to train.rms_norm";
  let description = [{
    As `zopt-raise-layer-norm`. Where the norm is computed in a wider type (Cast, the norm, Cast back, Mul by gamma) the casts go: `train.rms_norm` computes in fp32 in any case.

    Never raises a norm over other axes. Numerics: up to reassociation, fewer roundings.
  }];
}

def RaiseGelu : RaisingPass<"zopt-raise-gelu"> {
  let summary = "Raise x/2 (1 + erf(x / sqrt 2)) and x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) to train.gelu";
  let description = [{
    Compares polynomials, not shapes of graphs: the argument of `erf` or `tanh`, and what is made of its result, are expanded in x, so that order of operands, x*x*x for x^3, quotients
    for products and factors anywhere make no difference. Coefficients agree to 1e-6 of their value (constants of fp32 that were rounded before export).

    Never raises other constants (the sigmoid form x sigmoid(1.702 x) stays). Numerics: up to reassociation, fewer roundings.
  }];
}

def RaiseSilu : RaisingPass<"zopt-raise-silu"> {
  let summary = "Raise x * sigmoid(x) and x / (1 + e^-x) to train.silu";
  let description = [{Numerics: one rounding fewer for the product; the quotient changes within its rounding.}];
}

def RaiseStochasticDepth : RaisingPass<"zopt-raise-stochastic-depth"> {
  let summary = "Raise the dropout of a branch, [u < p] / p or floor(u + p) / p with random u, to train.dropout of ones";
  let description = [{
    `u` is a `train.uniform` of a known shape, which is mostly [batch, 1, ...]. Evaluation then keeps every branch, as it does for dropout.

    Never raises numbers that are compared, but not divided by the probability: what they choose is no dropout. Numerics: other random numbers (kept where u >= 1 - p), of the
    same distribution.
  }];
}

def RaiseRotary : RaisingPass<"zopt-raise-rotary"> {
  let summary = "Raise x * cos + join(-x2, x1) * sin to train.rotary";
  let description = [{
    x is [B, H, T, D], or [B, T, H, D] with angles by position, which takes reshapes that move nothing. x1 and x2 are the halves of its last axis, joined by a concat (Llama, GPT-NeoX), or its even
    and odd elements, joined by a stack (GPT-J: `interleaved`). cos and sin must be proven to be the same for both elements of a pair: made by joining a tensor with itself or by repeating each
    element, through what works on single elements, reshapes and broadcasts that keep the last axis. `train.rotary` then takes the half. The form on parts,
    join(x1 cos - x2 sin, x2 cos + x1 sin), is raised too.

    Never raises tables that are read from a weight file (nothing is known of their halves), nor angles that a gradient could flow to, for `train.rotary` has none there. Numerics: one
    rounding fewer.
  }];
}

def RaiseAttention : RaisingPass<"zopt-raise-attention"> {
  let summary = "Raise softmax(scale q k^T + mask) v to train.attention";
  let description = [{
    Expects `zopt-raise-linear` to have run: scale and transposes are in the products. Masks are added, or select between scores and a number at or below -1e30 (or -inf). The zeroing of NaN behind the
    softmax belongs to it. A mask that is a function of column - row alone is computed here: where it shows everything it vanishes, where it shows column <= row + (S - T) and S >= T
    it becomes `causal`. What is left is the mask operand: of type i1 where what it hides is -inf, otherwise it is added. Repetition of key and value heads (grouped queries) is removed.
    The last two also apply to `train.attention` that was imported. Products of [B * H, T, D] (bmm) become attention of one head.

    Never raises where scores or probabilities have another use, where queries, keys and values differ in their leading axes, or where a gradient could flow to the mask (learned position biases), for
    `train.attention` has none there. Numerics: up to reassociation, fewer roundings. A row that sees nothing gives 0: so it does in a graph that hides with -inf and zeroes NaN; one that
    does not zero gives NaN. With finite numbers such rows stay what they were.
  }];
}

#endif // ZOPT_TRANSFORMS_RAISINGPASSES_TD
