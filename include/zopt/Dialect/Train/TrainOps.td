//===- TrainOps.td - ops of the training graph ---------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_OPS_TD
#define ZOPT_DIALECT_TRAIN_OPS_TD

include "zopt/Dialect/Train/TrainAttributes.td"
include "zopt/Dialect/Train/TrainInterfaces.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"

class Train_Op<string mnemonic, list<Trait> traits = []> : Op<Train_Dialect, mnemonic, traits>;

def Train_Tensor : StaticShapeTensorOf<[AnyFloat, AnyInteger]>;
def Train_FloatTensor : StaticShapeTensorOf<[AnyFloat]>;
def Train_IntTensor : StaticShapeTensorOf<[AnySignlessInteger]>;
def Train_BoolTensor : StaticShapeTensorOf<[I1]>;
def Train_Scalar : 0DTensorOf<[AnyFloat]>;

// Every float operand is differentiable, or the op says itself which are.
def Differentiable : DeclareOpInterfaceMethods<Train_DifferentiableOpInterface>;
def DifferentiableInPart : DeclareOpInterfaceMethods<Train_DifferentiableOpInterface, ["isDifferentiable"]>;

// An op whose result element depends only on the operand elements at the same (broadcast) position. `zopt-fuse-elementwise` fuses these.
def ElementwiseTrait : NativeOpTrait<"Elementwise"> { let cppNamespace = "::zopt::train"; }

//===----------------------------------------------------------------------===//
// Module-level symbols
//===----------------------------------------------------------------------===//

def Train_WeightFileOp : Train_Op<"weight_file", [Symbol]> {
  let summary = "a file that holds weights";
  let description = [{
    `path` is relative to the folder of the module's own file. `size` is the file's size in bytes, -1 where the file was missing at import. `fingerprint` is `xxh3:`
    and the hash of the header and of sampled pages (Support/Fingerprint.h), empty where the file was missing; both are checked before weights are used.

    ```mlir
    train.weight_file @weights0 {path = "model.onnx", size = 749120, fingerprint = "xxh3:90ab12cd34ef5678"}
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$path, I64Attr:$size, StrAttr:$fingerprint);
  let assemblyFormat = "$sym_name attr-dict";
}

def Train_StateOp : Train_Op<"state", [Symbol]> {
  let summary = "a named tensor that lives across steps";
  let description = [{
    `init` is a `#train.weight`, or a scalar attribute for a splat. Placement goes by `role`. A `parameter` is trained when `trained` is set, frozen otherwise.
    `source_name` is the exporter's name where it differs from the symbol; `source_permutation` takes this layout to the source's (a folded Transpose).
    `tied` names further initializers that hold the same parameter. Only parameters have `decay` (whether weight decay applies).

    ```mlir
    train.state @lm_head.weight : tensor<256x64xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 1024, 65536, f32>}
    ```

    Constraints:
    - (C1) the type is a static tensor.
    - (C2) a `#train.weight` refers to a `train.weight_file` and has as many bytes as the tensor of its element type and the state's shape.
    - (C3) `trained` only on parameters.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<Train_Tensor>:$type, Train_RoleAttr:$role, OptionalAttr<AnyAttr>:$init, UnitAttr:$trained,
    OptionalAttr<StrAttr>:$source_name, OptionalAttr<DenseI64ArrayAttr>:$source_permutation, OptionalAttr<StrArrayAttr>:$tied, UnitAttr:$no_decay);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
  }];
}

def Train_OptimizerOp : Train_Op<"optimizer", [Symbol, IsolatedFromAbove, SingleBlock]> {
  let summary = "an update rule, as scalar arithmetic";
  let description = [{
    The body is the rule for one element in fp32 (f64 under --fp64). Block arguments: parameter, gradient (already unscaled and clipped), one per entry of `slots`
    (optimizer state), then `lr` (learning rate), `step` (1, 2, ... as a float) and `decay` (weight decay of the element's group). It yields the new parameter and
    slots. Kernels on every target are generated from this body.

    With `trust_ratio = [least, most]` (LAMB) the body yields a direction and a step size in the new parameter's place: parameter -= step size * ratio * direction, where ratio is
    |parameter| / |direction|, norms over the whole parameter, between `least` and `most`; 1 where either norm is 0.

    With `newton_schulz = N` (Muon) the body yields a direction in the new parameter's place, of gradient and slots alone. N Newton-Schulz iterations over the whole matrix bring its singular values near 1, and
    parameter -= lr * decay * parameter; parameter -= lr * that matrix.

    With `average = D`, where the body does not know the new parameter, the last slot is its moving average, which the body does not yield: average = D * average + (1 - D) * parameter, from the parameter's
    value before the first step.

    With `cycles_momentum` the block's last argument is the momentum of the step (Adam's first beta), which a schedule sets.

    ```mlir
    train.optimizer @sgd slots ["momentum"] {
    ^bb0(%p: f32, %g: f32, %m: f32, %lr: f32, %step: f32, %decay: f32):
      ...
      train.yield %p1, %m1 : f32, f32
    }
    ```

    Constraints:
    - (C1) the block has 5 + |slots| arguments of one float type, one more where the momentum cycles.
    - (C2) the terminator yields 1 + |slots| values of that type, 2 + |slots| with a trust ratio; one less with an average.
    - (C3) a trust ratio has two numbers, 0 < least <= most.
    - (C4) there is at least one Newton-Schulz iteration, and no trust ratio or cycle of the momentum with it; the body then uses neither parameter, lr, step nor decay.
    - (C5) an average decays by more than 0 and less than 1, has a slot, and comes with a trust ratio or Newton-Schulz iterations.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrArrayAttr:$slots, OptionalAttr<DenseF64ArrayAttr>:$trust_ratio, OptionalAttr<I64Attr>:$newton_schulz, OptionalAttr<F64Attr>:$average, UnitAttr:$cycles_momentum);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `slots` $slots $body attr-dict";
  let hasVerifier = 1;
}

def Train_YieldOp : Train_Op<"yield", [Pure, Terminator, ReturnLike]> {
  let summary = "ends the region of train.optimizer or train.fused";
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
}

//===----------------------------------------------------------------------===//
// States inside functions
//===----------------------------------------------------------------------===//

def Train_ReadStateOp : Train_Op<"read_state", [MemoryEffects<[MemRead]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "the value of a state";
  let description = [{(C1) the state exists and has the result's shape; the element type is the state's, or the compute precision's after zopt-mixed-precision.}];
  let arguments = (ins FlatSymbolRefAttr:$state);
  let results = (outs Train_Tensor:$value);
  let assemblyFormat = "$state attr-dict `:` type($value)";
}

def Train_WriteStateOp : Train_Op<"write_state", [MemoryEffects<[MemWrite]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "sets a state";
  let description = [{With `accumulates`, in a micro-step, the state is 0 where the first micro-step of a step reads it. (C1) the state exists and has the operand's type.}];
  let arguments = (ins FlatSymbolRefAttr:$state, Train_Tensor:$value, UnitAttr:$accumulates);
  let assemblyFormat = "$state `,` $value attr-dict `:` type($value)";
}

def Train_AccumulateOp : Train_Op<"accumulate", [MemoryEffects<[MemRead, MemWrite]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "adds to a state of role gradient or scalar";
  let description = [{
    The first micro-step of a step sets the state, further ones add to it, in fp32 (f64 under --fp64). For a gradient, `state` names the *parameter*; the gradient
    itself is a bucket slice that ZeRO placement decides on.
  }];
  let arguments = (ins FlatSymbolRefAttr:$state, Train_Tensor:$value);
  let assemblyFormat = "$state `,` $value attr-dict `:` type($value)";
}

def Train_BackwardOp : Train_Op<"backward", [MemoryEffects<[MemRead, MemWrite]>, AllTypesMatch<["loss", "seed"]>]> {
  let summary = "the point where backward begins";
  let description = [{
    Stands once in @micro_step. `seed` is the cotangent of `loss` (a scalar). `zopt-autodiff` puts the backward graph behind it. A value defined before and used after it is a residual.
  }];
  let arguments = (ins Train_Scalar:$loss, Train_Scalar:$seed);
  let assemblyFormat = "$loss `seed` $seed attr-dict `:` type($loss)";
}

def Train_GradientNormOp : Train_Op<"gradient_norm", [MemoryEffects<[MemRead]>]> {
  let summary = "global L2 norm of all gradients";
  let description = [{
    Over every trained parameter once, without padding, before clipping and before the correction for ignored labels. Squares are summed in f64 over
    blocks of 128 elements, blocks are summed exactly, and the root is rounded once to the result's type, so the value does not depend on how gradients are
    sharded or bucketed (docs/Rationale/GradientNorm.md). NaN or infinity where a gradient is not finite.
  }];
  let results = (outs Train_Scalar:$norm);
  let assemblyFormat = "attr-dict `:` type($norm)";
}

def Train_UpdateOp : Train_Op<"update", [AllTypesMatch<["scale", "lr", "step", "finite"]>, MemoryEffects<[MemRead, MemWrite]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "applies an optimizer to one parameter";
  let description = [{
    g = gradient * scale; (parameter, slots) = optimizer(parameter, g, slots, lr * rate, step, decay). Where `finite` is 0 nothing changes. Without a `rate` it is 1.

    Constraints: (C1) `parameter` is a trained parameter state, `optimizer` a train.optimizer; (C2) for each slot a state `<parameter>.<slot>` of role optimizer exists; (C3) there is a
    `momentum` where the optimizer's cycles, and nowhere else; (C4) what Newton-Schulz iterations update has 2 or 4 axes.
  }];
  let arguments = (ins FlatSymbolRefAttr:$parameter, FlatSymbolRefAttr:$optimizer, Train_Scalar:$scale, Train_Scalar:$lr, Train_Scalar:$step, Train_Scalar:$finite, Optional<Train_Scalar>:$momentum, F64Attr:$decay, OptionalAttr<F64Attr>:$rate);
  let assemblyFormat = "$parameter `using` $optimizer `scale` $scale `lr` $lr `step` $step `finite` $finite (`momentum` $momentum^ `:` type($momentum))? `decay` $decay attr-dict `:` type($scale)";
}

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

def Train_ConstantOp : Train_Op<"constant", [Pure, ConstantLike]> {
  let summary = "a literal of at most 1 KiB (splats of any size)";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$value attr-dict `:` type($result)";
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Train_IotaOp : Train_Op<"iota", [Pure]> {
  let summary = "start + step * (index along axis)";
  let arguments = (ins I64Attr:$axis, DefaultValuedAttr<I64Attr, "0">:$start, DefaultValuedAttr<I64Attr, "1">:$step);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$axis attr-dict `:` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Elementwise (NumPy broadcasting; result has the broadcast shape)
//===----------------------------------------------------------------------===//

class Train_UnaryOp<string mnemonic, string text, list<Trait> traits = [Differentiable]>
    : Train_Op<mnemonic, [Pure, ElementwiseTrait, SameOperandsAndResultType] # traits> {
  let summary = text;
  let arguments = (ins Train_Tensor:$input);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}

def Train_NegOp : Train_UnaryOp<"neg", "-x">;
def Train_AbsOp : Train_UnaryOp<"abs", "|x|; gradient sign(x), 0 at 0">;
def Train_SignOp : Train_UnaryOp<"sign", "-1, 0 or 1; gradient 0">;
def Train_ExpOp : Train_UnaryOp<"exp", "e^x">;
def Train_LogOp : Train_UnaryOp<"log", "natural logarithm">;
def Train_SqrtOp : Train_UnaryOp<"sqrt", "square root">;
def Train_RsqrtOp : Train_UnaryOp<"rsqrt", "1 / sqrt(x)">;
def Train_ReciprocalOp : Train_UnaryOp<"reciprocal", "1 / x">;
def Train_TanhOp : Train_UnaryOp<"tanh", "hyperbolic tangent">;
def Train_SigmoidOp : Train_UnaryOp<"sigmoid", "1 / (1 + e^-x)">;
def Train_ErfOp : Train_UnaryOp<"erf", "error function">;
def Train_SinOp : Train_UnaryOp<"sin", "sine">;
def Train_CosOp : Train_UnaryOp<"cos", "cosine">;
def Train_ReluOp : Train_UnaryOp<"relu", "max(x, 0); gradient 0 at 0, as PyTorch takes it">;
def Train_SiluOp : Train_UnaryOp<"silu", "x * sigmoid(x)">;
def Train_FloorOp : Train_UnaryOp<"floor", "largest integer not above x; gradient 0">;
def Train_CeilOp : Train_UnaryOp<"ceil", "smallest integer not below x; gradient 0">;
def Train_SoftplusOp : Train_UnaryOp<"softplus", "log(1 + e^x), computed as max(x, 0) + log1p(e^-|x|)">;
def Train_RoundOp : Train_UnaryOp<"round", "nearest integer, halves to the even one; gradient 0">;
def Train_Expm1Op : Train_UnaryOp<"expm1", "e^x - 1, accurate near 0">;
def Train_TanOp : Train_UnaryOp<"tan", "tangent">;
def Train_AsinOp : Train_UnaryOp<"asin", "arc sine; NaN outside [-1, 1]">;
def Train_AcosOp : Train_UnaryOp<"acos", "arc cosine; NaN outside [-1, 1]">;
def Train_AtanOp : Train_UnaryOp<"atan", "arc tangent">;
def Train_SinhOp : Train_UnaryOp<"sinh", "hyperbolic sine">;
def Train_CoshOp : Train_UnaryOp<"cosh", "hyperbolic cosine">;
def Train_AsinhOp : Train_UnaryOp<"asinh", "inverse hyperbolic sine">;
def Train_AcoshOp : Train_UnaryOp<"acosh", "inverse hyperbolic cosine; NaN below 1">;
def Train_AtanhOp : Train_UnaryOp<"atanh", "inverse hyperbolic tangent; NaN outside [-1, 1]">;
def Train_NotOp : Train_UnaryOp<"not", "logical or bitwise complement", []>;

def Train_GeluOp : Train_UnaryOp<"gelu", "x * Phi(x), by erf (none) or tanh"> {
  let arguments = (ins Train_FloatTensor:$input, Train_GeluApproximation:$approximate);
}

def Train_IsNaNOp : Train_Op<"is_nan", [Pure, ElementwiseTrait, SameOperandsAndResultShape]> {
  let summary = "whether x is not a number";
  let arguments = (ins Train_FloatTensor:$input);
  let results = (outs Train_BoolTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

def Train_CastOp : Train_Op<"cast", [Pure, ElementwiseTrait, SameOperandsAndResultShape, Differentiable]> {
  let summary = "converts elements (float to integer truncates, to i1 compares with 0; to a smaller float rounds to nearest even)";
  let arguments = (ins Train_Tensor:$input);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasFolder = 1;
}

def Train_BitcastOp : Train_Op<"bitcast", [Pure, ElementwiseTrait, SameOperandsAndResultShape]> {
  let summary = "the bits of floats as integers, or of integers as floats";
  let description = [{
    The floats' bits are those of `format`, to which operands are rounded and from which results are extended: so it means the same in every compute precision. Has no derivative.
    (C1) floats become integers or integers floats; (C2) the format is a float as wide as the integers.

    ```mlir
    %1 = train.bitcast %0 as f16 : tensor<4xf32> -> tensor<4xi16>
    ```
  }];
  let arguments = (ins Train_Tensor:$input, TypeAttr:$format);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input `as` $format attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

class Train_BinaryOp<string mnemonic, string text, list<Trait> traits = [Differentiable]> : Train_Op<mnemonic, [Pure, ElementwiseTrait] # traits> {
  let summary = text;
  let description = [{(C1) operands and result have one element type; (C2) the result's shape is the operands' broadcast shape.}];
  let arguments = (ins Train_Tensor:$lhs, Train_Tensor:$rhs);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Train_AddOp : Train_BinaryOp<"add", "a + b">;
def Train_SubOp : Train_BinaryOp<"sub", "a - b">;
def Train_MulOp : Train_BinaryOp<"mul", "a * b">;
def Train_DivOp : Train_BinaryOp<"div", "a / b (integers truncate toward zero)">;
def Train_PowOp : Train_BinaryOp<"pow", "a ^ b">;
def Train_MaxOp : Train_BinaryOp<"max", "max(a, b); NaN if either is; gradient halves on ties, as PyTorch takes it">;
def Train_MinOp : Train_BinaryOp<"min", "min(a, b); NaN if either is; gradient halves on ties, as PyTorch takes it">;
def Train_AndOp : Train_BinaryOp<"and", "a and b", []>;
def Train_OrOp : Train_BinaryOp<"or", "a or b", []>;

def Train_RemOp : Train_BinaryOp<"rem", "a - b * trunc(a / b), with the sign of a, as C's % and fmod have it; exact for floats where |a / b| < 2^52; NaN where a float b is 0, 0 where an integer b is">;
def Train_XorOp : Train_BinaryOp<"xor", "exclusive or, logical or bitwise", []>;
def Train_ShiftLeftOp : Train_BinaryOp<"shift_left", "a * 2^b of integers, wrapping; 0 where b is the width or more", []>;
def Train_ShiftRightOp : Train_BinaryOp<"shift_right", "a / 2^b of integers, rounded down; 0 (-1 for a negative a) where b is the width or more", []>;

def Train_CompareOp : Train_Op<"compare", [Pure, ElementwiseTrait]> {
  let summary = "elementwise comparison; false where an operand is NaN, but for ne";
  let description = [{(C1) operands have one element type and the result is i1; (C2) the result's shape is the operands' broadcast shape.}];
  let arguments = (ins Train_ComparePredicate:$predicate, Train_Tensor:$lhs, Train_Tensor:$rhs);
  let results = (outs Train_BoolTensor:$result);
  let assemblyFormat = "$predicate $lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Train_SelectOp : Train_Op<"select", [Pure, ElementwiseTrait, Differentiable]> {
  let summary = "condition ? a : b";
  let description = [{(C1) a, b and the result have one element type; (C2) the result's shape is the operands' broadcast shape.}];
  let arguments = (ins Train_BoolTensor:$condition, Train_Tensor:$on_true, Train_Tensor:$on_false);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$condition `,` $on_true `,` $on_false attr-dict `:` type($condition) `,` type($on_true) `,` type($on_false) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

// Derivatives that are one op, so that their inner arithmetic is fp32 and rounds once.
class Train_UnaryGradOp<string mnemonic, string text, list<Trait> traits = []> : Train_Op<mnemonic, [Pure, ElementwiseTrait, SameOperandsAndResultType] # traits> {
  let summary = text;
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$cotangent);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input `,` $cotangent attr-dict `:` type($result)";
}
def Train_GeluGradOp : Train_UnaryGradOp<"gelu_grad", "dy * gelu'(x)"> {
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$cotangent, Train_GeluApproximation:$approximate);
}
def Train_SiluGradOp : Train_UnaryGradOp<"silu_grad", "dy * silu'(x)">;
def Train_ReluGradOp : Train_UnaryGradOp<"relu_grad", "dy where y > 0, else 0; `input` is the relu's result">;
def Train_TanhGradOp : Train_UnaryGradOp<"tanh_grad", "dy * (1 - y^2); `input` is the tanh's result">;
def Train_SigmoidGradOp : Train_UnaryGradOp<"sigmoid_grad", "dy * y * (1 - y); `input` is the sigmoid's result">;
def Train_ErfGradOp : Train_UnaryGradOp<"erf_grad", "dy * 2 / sqrt(pi) * e^(-x^2)">;

def Train_FusedOp : Train_Op<"fused", [Pure, IsolatedFromAbove, SingleBlock]> {
  let summary = "elementwise ops that become one kernel";
  let description = [{
    The body holds elementwise train ops on the *full* tensors (block arguments mirror the operands); every result has the same shape, the iteration space. Each inner
    op still rounds to its own type: fusion changes no bit.

    Constraints: (C1) the body holds elementwise train ops and constants only; (C2) all results have one shape, to which every operand broadcasts.
  }];
  let arguments = (ins Variadic<Train_Tensor>:$inputs);
  let results = (outs Variadic<Train_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "`(` $inputs `)` $body attr-dict `:` functional-type($inputs, $outputs)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Movement
//===----------------------------------------------------------------------===//

def Train_ReshapeOp : Train_Op<"reshape", [Pure, Differentiable]> {
  let summary = "same elements in row-major order, other shape";
  let description = [{(C1) element types and counts agree.}];
  let arguments = (ins Train_Tensor:$input);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Train_TransposeOp : Train_Op<"transpose", [Pure, Differentiable]> {
  let summary = "result axis i is input axis permutation[i]";
  let description = [{(C1) `permutation` permutes the axes; (C2) the result has the permuted shape.}];
  let arguments = (ins Train_Tensor:$input, DenseI64ArrayAttr:$permutation);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input $permutation attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Train_SliceOp : Train_Op<"slice", [Pure, Differentiable]> {
  let summary = "result[i] = input[starts + i * strides]; the sizes are the result's shape; strides may be negative";
  let description = [{(C1) one start and stride an axis; (C2) every element read is in bounds.}];
  let arguments = (ins Train_Tensor:$input, DenseI64ArrayAttr:$starts, DenseI64ArrayAttr:$strides);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input $starts $strides attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Train_SliceGradOp : Train_Op<"slice_grad", [Pure, Differentiable]> {
  let summary = "zeros of the result's shape with the cotangent at the sliced positions";
  let description = [{(C1) `slice` with these starts and strides takes the result's type to the operand's.}];
  let arguments = (ins Train_Tensor:$cotangent, DenseI64ArrayAttr:$starts, DenseI64ArrayAttr:$strides);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$cotangent $starts $strides attr-dict `:` type($cotangent) `->` type($result)";
  let hasVerifier = 1;
}

def Train_ConcatOp : Train_Op<"concat", [Pure, Differentiable]> {
  let summary = "joins tensors along an axis";
  let description = [{(C1) operands agree in element type and in every other axis; the result's axis is their sum.}];
  let arguments = (ins Variadic<Train_Tensor>:$inputs, I64Attr:$axis);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$axis `,` $inputs attr-dict `:` type($inputs) `->` type($result)";
  let hasVerifier = 1;
}

def Train_BroadcastOp : Train_Op<"broadcast", [Pure, Differentiable]> {
  let summary = "NumPy broadcast to the result's shape";
  let description = [{(C1) the operand's shape broadcasts to the result's.}];
  let arguments = (ins Train_Tensor:$input);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Train_GatherOp : Train_Op<"gather", [Pure, Differentiable]> {
  let summary = "rows of data along axis, by index (ONNX Gather; an embedding with axis 0)";
  let description = [{
    result shape = data[:axis] + indices + data[axis+1:]. Negative indices count from the end. Indices from the data are range-checked by the runtime before a step.
    (C1) the result has that shape and the data's element type.
  }];
  let arguments = (ins Train_Tensor:$data, Train_IntTensor:$indices, I64Attr:$axis);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$data `,` $indices $axis attr-dict `:` type($data) `,` type($indices) `->` type($result)";
  let hasVerifier = 1;
}

def Train_GatherGradOp : Train_Op<"gather_grad", [Pure, Differentiable]> {
  let summary = "zeros of the result's shape plus the cotangent's rows summed by index, in order of position, in fp32";
  let description = [{(C1) `gather` on the result's type with these indices and axis has the cotangent's type.}];
  let arguments = (ins Train_FloatTensor:$cotangent, Train_IntTensor:$indices, I64Attr:$axis);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$cotangent `,` $indices $axis attr-dict `:` type($cotangent) `,` type($indices) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Reductions and rows
//===----------------------------------------------------------------------===//

class Train_ReduceOp<string mnemonic, string text> : Train_Op<mnemonic, [Pure, Differentiable]> {
  let summary = text;
  let description = [{
    (C1) `axes` are sorted, unique, in range; (C2) the result's shape is the input's with those axes 1 (`keepdims`) or dropped. The order of the sum depends on the
    shape alone. The sum is fp32 (f64 for f64) and rounds once to the result's type, which may be another float type than the input's.
  }];
  let arguments = (ins Train_Tensor:$input, DenseI64ArrayAttr:$axes, UnitAttr:$keepdims);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$input $axes attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}
def Train_ReduceSumOp : Train_ReduceOp<"reduce_sum", "sum over axes">;
def Train_ReduceMeanOp : Train_ReduceOp<"reduce_mean", "mean over axes">;
def Train_ReduceMaxOp : Train_ReduceOp<"reduce_max", "maximum over axes; gradient shared evenly among ties">;
def Train_ReduceProdOp : Train_ReduceOp<"reduce_prod", "product over axes, in the order of a sum">;

class Train_RowUnaryOp<string mnemonic, string text> : Train_Op<mnemonic, [Pure, SameOperandsAndResultType, Differentiable]> {
  let summary = text;
  let arguments = (ins Train_FloatTensor:$input);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}
def Train_SoftmaxOp : Train_RowUnaryOp<"softmax", "softmax over the last axis; a row of -inf gives NaN">;
def Train_LogSoftmaxOp : Train_RowUnaryOp<"log_softmax", "log of softmax over the last axis">;

class Train_RowGradOp<string mnemonic, string text> : Train_Op<mnemonic, [Pure, SameOperandsAndResultType]> {
  let summary = text;
  let arguments = (ins Train_FloatTensor:$output, Train_FloatTensor:$cotangent);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$output `,` $cotangent attr-dict `:` type($result)";
}
def Train_SoftmaxGradOp : Train_RowGradOp<"softmax_grad", "y * (dy - sum(dy * y)) over the last axis">;
def Train_LogSoftmaxGradOp : Train_RowGradOp<"log_softmax_grad", "dy - e^y * sum(dy) over the last axis">;

def Train_LayerNormOp : Train_Op<"layer_norm", [Pure, AllTypesMatch<["mean", "rstd"]>, AttrSizedOperandSegments, Differentiable]> {
  let summary = "(x - mean) * rstd * gamma + beta over the last axis";
  let description = [{
    Normalizes the last axis: rstd = 1 / sqrt(var + epsilon), population variance. `mean` and `rstd` are fp32 (f64 for f64 input), of the input's shape without the last axis.
    (C1) gamma and beta are vectors of the last axis' size; (C2) result has the input's type.
  }];
  let arguments = (ins Train_FloatTensor:$input, Optional<Train_FloatTensor>:$gamma, Optional<Train_FloatTensor>:$beta, F64Attr:$epsilon);
  let results = (outs Train_FloatTensor:$result, Train_FloatTensor:$mean, Train_FloatTensor:$rstd);
  let assemblyFormat = "$input (`gamma` $gamma^ `:` type($gamma))? (`beta` $beta^ `:` type($beta))? attr-dict `:` type($input) `->` type($result) `,` type($mean)";
  let hasVerifier = 1;
}
def Train_LayerNormGradOp : Train_Op<"layer_norm_grad", [Pure, AttrSizedOperandSegments, AttrSizedResultSegments, AllTypesMatch<["mean", "rstd"]>, AllTypesMatch<["input", "result"]>]> {
  let summary = "dx of layer_norm, plus what else reaches x, and sums over its rows";
  let description = [{
    Optional results (GPU): `gamma_grad` and `beta_grad` as of `layer_norm_parameter_grad`, and `sum`, the sum of the result, as it is rounded, over all axes but the last, in fp32: the gradient of a bias that
    was added to x.
    (C1) gamma, mean, rstd and the cotangent have the shapes that `layer_norm` on the input gives; (C2) an `addend`, which is added before the result is rounded, has the input's type; (C3) gamma_grad and
    beta_grad come together; they and the sum are vectors of the last axis' size.
  }];
  let arguments = (ins Train_FloatTensor:$input, Optional<Train_FloatTensor>:$gamma, Train_FloatTensor:$mean, Train_FloatTensor:$rstd, Train_FloatTensor:$cotangent, Optional<Train_FloatTensor>:$addend);
  let results = (outs Train_FloatTensor:$result, Optional<Train_FloatTensor>:$gamma_grad, Optional<Train_FloatTensor>:$beta_grad, Optional<Train_FloatTensor>:$sum);
  let assemblyFormat = "$input (`gamma` $gamma^ `:` type($gamma))? `mean` $mean `rstd` $rstd `cotangent` $cotangent (`addend` $addend^ `:` type($addend))? attr-dict `:` type($input) `,` type($mean) `,` type($cotangent) (`parameters` type($gamma_grad)^ `,` type($beta_grad))? (`sum` type($sum)^)?";
  let builders = [OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$input, "::mlir::Value":$gamma, "::mlir::Value":$mean, "::mlir::Value":$rstd, "::mlir::Value":$cotangent),
    [{ build($_builder, $_state, result, ::mlir::Type(), ::mlir::Type(), ::mlir::Type(), input, gamma, mean, rstd, cotangent, ::mlir::Value()); }]>];
  let hasVerifier = 1;
}
def Train_LayerNormParameterGradOp : Train_Op<"layer_norm_parameter_grad", [Pure, AllTypesMatch<["mean", "rstd"]>]> {
  let summary = "dgamma = sum over rows of dy * (x - mean) * rstd and dbeta = sum of dy, in fp32, in row order";
  let description = [{(C1) mean, rstd and the cotangent have the shapes that `layer_norm` on the input gives; (C2) the results are vectors of the last axis' size.}];
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$mean, Train_FloatTensor:$rstd, Train_FloatTensor:$cotangent);
  let results = (outs Train_FloatTensor:$gamma_grad, Train_FloatTensor:$beta_grad);
  let assemblyFormat = "$input `mean` $mean `rstd` $rstd `cotangent` $cotangent attr-dict `:` type($input) `,` type($mean) `,` type($cotangent) `->` type($gamma_grad) `,` type($beta_grad)";
  let hasVerifier = 1;
}
def Train_RMSNormOp : Train_Op<"rms_norm", [Pure, Differentiable]> {
  let summary = "x * rstd * gamma over the last axis, rstd = 1 / sqrt(mean(x^2) + epsilon)";
  let description = [{(C1) gamma is a vector of the last axis' size; (C2) result has the input's type; rstd as in layer_norm.}];
  let arguments = (ins Train_FloatTensor:$input, Optional<Train_FloatTensor>:$gamma, F64Attr:$epsilon);
  let results = (outs Train_FloatTensor:$result, Train_FloatTensor:$rstd);
  let assemblyFormat = "$input (`gamma` $gamma^ `:` type($gamma))? attr-dict `:` type($input) `->` type($result) `,` type($rstd)";
  let hasVerifier = 1;
}
def Train_RMSNormGradOp : Train_Op<"rms_norm_grad", [Pure, AttrSizedOperandSegments, AttrSizedResultSegments]> {
  let summary = "dx of rms_norm, plus what else reaches x, and sums over its rows";
  let description = [{
    Optional results (GPU) as of `layer_norm_grad`.
    (C1) gamma, rstd and the cotangent have the shapes that `rms_norm` on the input gives; (C2) the result, and an `addend`, which is added before the result is rounded, have the input's type; (C3) gamma_grad
    and the sum are vectors of the last axis' size.
  }];
  let arguments = (ins Train_FloatTensor:$input, Optional<Train_FloatTensor>:$gamma, Train_FloatTensor:$rstd, Train_FloatTensor:$cotangent, Optional<Train_FloatTensor>:$addend);
  let results = (outs Train_FloatTensor:$result, Optional<Train_FloatTensor>:$gamma_grad, Optional<Train_FloatTensor>:$sum);
  let assemblyFormat = "$input (`gamma` $gamma^ `:` type($gamma))? `rstd` $rstd `cotangent` $cotangent (`addend` $addend^ `:` type($addend))? attr-dict `:` type($input) `,` type($rstd) `,` type($cotangent) `->` type($result) (`parameters` type($gamma_grad)^)? (`sum` type($sum)^)?";
  let builders = [OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$input, "::mlir::Value":$gamma, "::mlir::Value":$rstd, "::mlir::Value":$cotangent),
    [{ build($_builder, $_state, result, ::mlir::Type(), ::mlir::Type(), input, gamma, rstd, cotangent, ::mlir::Value()); }]>];
  let hasVerifier = 1;
}
def Train_RMSNormParameterGradOp : Train_Op<"rms_norm_parameter_grad", [Pure]> {
  let summary = "dgamma = sum over rows of dy * x * rstd, in fp32, in row order";
  let description = [{(C1) rstd and the cotangent have the shapes that `rms_norm` on the input gives; (C2) the result is a vector of the last axis' size.}];
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$rstd, Train_FloatTensor:$cotangent);
  let results = (outs Train_FloatTensor:$gamma_grad);
  let assemblyFormat = "$input `rstd` $rstd `cotangent` $cotangent attr-dict `:` type($input) `,` type($rstd) `,` type($cotangent) `->` type($gamma_grad)";
  let hasVerifier = 1;
}

def Train_CrossEntropyOp : Train_Op<"cross_entropy", [Pure, AllTypesMatch<["loss", "count"]>, Differentiable]> {
  let summary = "sum over rows of -log softmax(logits)[label], the number of counted rows, and each row's log-sum-exp";
  let description = [{
    logits [..., C], labels [...]. A row whose label is `ignore_index` counts for nothing. With label smoothing e the row's loss is
    (1-e) * nll + e/C * sum(-log p). `loss` (sum, not mean) and `count` are fp32 scalars (f64 for f64 logits); `lse` has the labels' shape. Logits are read in their own
    type and computed in fp32. (C1) labels have the logits' shape without the last axis.
  }];
  let arguments = (ins Train_FloatTensor:$logits, Train_IntTensor:$labels, DefaultValuedAttr<I64Attr, "-100">:$ignore_index, DefaultValuedAttr<F64Attr, "0.0">:$label_smoothing);
  let results = (outs Train_FloatTensor:$loss, Train_FloatTensor:$count, Train_FloatTensor:$lse);
  let assemblyFormat = "$logits `,` $labels attr-dict `:` type($logits) `,` type($labels) `->` type($loss) `,` type($lse)";
  let builders = [];
  let hasVerifier = 1;
}
def Train_CrossEntropyGradOp : Train_Op<"cross_entropy_grad", [Pure]> {
  let summary = "(softmax(logits) - smoothed one-hot) * scale, 0 in ignored rows";
  let description = [{(C1) labels and lse have the logits' shape without the last axis; (C2) the result has the logits' type.}];
  let arguments = (ins Train_FloatTensor:$logits, Train_IntTensor:$labels, Train_FloatTensor:$lse, Train_Scalar:$scale, DefaultValuedAttr<I64Attr, "-100">:$ignore_index, DefaultValuedAttr<F64Attr, "0.0">:$label_smoothing);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$logits `,` $labels `,` $lse `,` $scale attr-dict `:` type($logits) `,` type($labels) `,` type($lse) `,` type($scale) `->` type($result)";
  let hasVerifier = 1;
}

def Train_CrossEntropyStepOp : Train_Op<"cross_entropy_step", [Pure, AllTypesMatch<["loss", "count"]>, AllTypesMatch<["logits", "result"]>]> {
  let summary = "cross_entropy and cross_entropy_grad over one reading of the logits (GPU)";
  let description = [{
    `loss` and `count` as of `cross_entropy`, `result` as of `cross_entropy_grad` with that op's log-sum-exp in fp32. (C1) labels have the logits' shape without the last axis.
  }];
  let arguments = (ins Train_FloatTensor:$logits, Train_IntTensor:$labels, Train_Scalar:$scale, DefaultValuedAttr<I64Attr, "-100">:$ignore_index, DefaultValuedAttr<F64Attr, "0.0">:$label_smoothing);
  let results = (outs Train_FloatTensor:$result, Train_FloatTensor:$loss, Train_FloatTensor:$count);
  let assemblyFormat = "$logits `,` $labels `,` $scale attr-dict `:` type($logits) `,` type($labels) `,` type($scale) `->` type($loss)";
  let hasVerifier = 1;
}

def Train_CountCorrectOp : Train_Op<"count_correct", [Pure]> {
  let summary = "the number of counted rows whose largest logit is the label's";
  let description = [{
    logits [..., C], labels [...]. A row whose label is `ignore_index` counts for nothing. Of several largest logits the first one is meant; a row with a NaN beside or at its label is not correct.
    `count` is an fp32 scalar (f64 for f64 logits). (C1) labels have the logits' shape without the last axis.
  }];
  let arguments = (ins Train_FloatTensor:$logits, Train_IntTensor:$labels, DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs Train_FloatTensor:$count);
  let assemblyFormat = "$logits `,` $labels attr-dict `:` type($logits) `,` type($labels) `->` type($count)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

def Train_MatmulOp : Train_Op<"matmul", [Pure, DeclareOpInterfaceMethods<Train_CostOpInterface>, Differentiable]> {
  let summary = "batched matrix product with transpose flags, scale and bias";
  let description = [{
    result = scale * op(lhs) x op(rhs) + bias; lhs [.., m, k] ([.., k, m] with transpose_lhs), rhs [.., k, n] ([.., n, k] with transpose_rhs). Leading axes broadcast as
    NumPy does; bias is a vector [n]. Products accumulate in fp32 (f64 for f64), the result is rounded once to its own element type, which may be wider than the operands'.
    (C1) ranks are at least 2 and inner sizes agree; (C2) the result has the broadcast batch shape and [m, n]; (C3) lhs and rhs have one element type.
  }];
  let arguments = (ins Train_FloatTensor:$lhs, Train_FloatTensor:$rhs, Optional<Train_FloatTensor>:$bias, UnitAttr:$transpose_lhs, UnitAttr:$transpose_rhs, DefaultValuedAttr<F64Attr, "1.0">:$scale);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$lhs `,` $rhs (`bias` $bias^ `:` type($bias))? attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
  let hasVerifier = 1;
}

// A product with its neighbours, where the target's library has them in one call (CUDA).
def Train_FusedMatmulOp : Train_Op<"fused_matmul", [Pure, AttrSizedOperandSegments, AttrSizedResultSegments]> {
  let summary = "matrix product with an activation, or with the sum that is a bias's gradient";
  let description = [{
    p = scale * op(lhs) x op(rhs) + bias as in `matmul`. Epilogue `none`: result = p. `gelu`: result = gelu(p) and pre_activation = p. `gelu_grad`: result = p * gelu'(aux). GELU is the tanh form, computed
    on the unrounded p. An `addend` of the result's type is added to p before it is rounded, with epilogue none. `bias_gradient` is a sum in fp32, rounded once: `lhs_rows` of op(lhs) over k (one element a row of the result), `rhs_columns` of op(rhs) over k (one a column),
    `out_columns` of the result over all its rows.
    (C1) the product is a legal `matmul`, and the addend has the result's type and neither an epilogue nor a bias gradient beside it; (C2) pre_activation (with gelu, and only then) and aux (with gelu_grad, and only then) have the result's shape; (C3) bias_gradient is a vector of the size that its kind
    says, there unless the kind is none; lhs_rows and rhs_columns need operands of rank 2.
  }];
  let arguments = (ins Train_FloatTensor:$lhs, Train_FloatTensor:$rhs, Optional<Train_FloatTensor>:$bias, Optional<Train_FloatTensor>:$aux, Optional<Train_FloatTensor>:$addend, UnitAttr:$transpose_lhs, UnitAttr:$transpose_rhs,
    DefaultValuedAttr<F64Attr, "1.0">:$scale, DefaultValuedAttr<Train_MatmulEpilogue, "::zopt::train::MatmulEpilogue::none">:$epilogue,
    DefaultValuedAttr<Train_BiasGradient, "::zopt::train::BiasGradient::none">:$bias_gradient_kind);
  let results = (outs Train_FloatTensor:$result, Optional<Train_FloatTensor>:$pre_activation, Optional<Train_FloatTensor>:$bias_gradient);
  let assemblyFormat = "$lhs `,` $rhs (`bias` $bias^)? (`aux` $aux^)? (`addend` $addend^)? attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Train_AttentionOp : Train_Op<"attention", [Pure, DeclareOpInterfaceMethods<Train_CostOpInterface>, DifferentiableInPart]> {
  let summary = "softmax(scale * q k^T + mask) v";
  let description = [{
    q [B, H, T, D], k and v [B, G, S, D'] with H a multiple of G (grouped queries: head h reads group h / (H/G)). `causal`: position t sees s <= t + (S - T). An optional `mask`
    broadcasts to [B, H, T, S]: i1 (true: visible) or float (added). Scores, softmax and sums are fp32 inside. `lse` [B, H, T] is fp32, each row's log-sum-exp. A row that sees
    nothing gives 0.
    (C1) shapes agree as above.
  }];
  let arguments = (ins Train_FloatTensor:$query, Train_FloatTensor:$key, Train_FloatTensor:$value, Optional<Train_Tensor>:$mask, F64Attr:$scale, UnitAttr:$causal);
  let results = (outs Train_FloatTensor:$result, Train_FloatTensor:$lse);
  let assemblyFormat = "$query `,` $key `,` $value (`mask` $mask^ `:` type($mask))? attr-dict `:` type($query) `,` type($key) `,` type($value) `->` type($result) `,` type($lse)";
  let hasVerifier = 1;
}
def Train_AttentionGradOp : Train_Op<"attention_grad", [Pure, DeclareOpInterfaceMethods<Train_CostOpInterface>]> {
  let summary = "cotangents of attention's query, key and value, from (q, k, v, result, lse)";
  let description = [{(C1) shapes agree as in `attention`; (C2) each result has its operand's shape.}];
  let arguments = (ins Train_FloatTensor:$query, Train_FloatTensor:$key, Train_FloatTensor:$value, Optional<Train_Tensor>:$mask, Train_FloatTensor:$output, Train_FloatTensor:$lse, Train_FloatTensor:$cotangent, F64Attr:$scale, UnitAttr:$causal);
  let results = (outs Train_FloatTensor:$query_grad, Train_FloatTensor:$key_grad, Train_FloatTensor:$value_grad);
  let assemblyFormat = "$query `,` $key `,` $value (`mask` $mask^ `:` type($mask))? `output` $output `lse` $lse `cotangent` $cotangent attr-dict `:` type($query) `,` type($key) `,` type($value) `,` type($output) `,` type($lse) `,` type($cotangent) `->` type($query_grad) `,` type($key_grad) `,` type($value_grad)";
  let hasVerifier = 1;
}

// What attention is decomposed into where no library has it (CPU).
def Train_AttentionProbabilitiesOp : Train_Op<"attention_probabilities", [Pure]> {
  let summary = "masked softmax of scores over the last axis, and each row's log-sum-exp";
  let description = [{scores [B, H, T, S] (already scaled); `causal` and `mask` as in train.attention. `result` has its own element type; a row that sees nothing gives 0 and lse -inf. (C1) the result has the scores' shape and lse the scores' without the last axis; (C2) the mask broadcasts to the scores.}];
  let arguments = (ins Train_FloatTensor:$scores, Optional<Train_Tensor>:$mask, UnitAttr:$causal);
  let results = (outs Train_FloatTensor:$result, Train_FloatTensor:$lse);
  let assemblyFormat = "$scores (`mask` $mask^ `:` type($mask))? attr-dict `:` type($scores) `->` type($result) `,` type($lse)";
  let hasVerifier = 1;
}
def Train_AttentionScoresGradOp : Train_Op<"attention_scores_grad", [Pure]> {
  let summary = "p = exp(masked scores - lse) and ds = p * (dp - sum over the last axis of (output * cotangent))";
  let description = [{scores and dp [B, H, T, S]; output and cotangent [B, H, T, D]. Gives the probabilities (rounded to their type) and the cotangent of the scores. (C1) dp and both results have the scores' shape, lse the scores' without the last axis; (C2) output and cotangent agree and have the scores' leading axes.}];
  let arguments = (ins Train_FloatTensor:$scores, Optional<Train_Tensor>:$mask, Train_FloatTensor:$lse, Train_FloatTensor:$probability_grad, Train_FloatTensor:$output, Train_FloatTensor:$cotangent, UnitAttr:$causal);
  let results = (outs Train_FloatTensor:$probabilities, Train_FloatTensor:$scores_grad);
  let assemblyFormat = "$scores (`mask` $mask^ `:` type($mask))? `lse` $lse `dp` $probability_grad `output` $output `cotangent` $cotangent attr-dict `:` type($scores) `,` type($lse) `,` type($probability_grad) `,` type($output) `,` type($cotangent) `->` type($probabilities) `,` type($scores_grad)";
  let hasVerifier = 1;
}

def Train_RotaryOp : Train_Op<"rotary", [Pure, AllTypesMatch<["cos", "sin"]>, AllTypesMatch<["input", "result"]>, DifferentiableInPart]> {
  let summary = "rotary position embedding of the last axis";
  let description = [{
    input [B, H, T, D]; cos and sin broadcast to [B, 1, T, D/2]. With halves (x1, x2) = split of the last axis (`interleaved`: even and odd elements):
    (x1 cos - x2 sin, x2 cos + x1 sin); `inverse` rotates by the negative angle. (C1) D is even and cos, sin have D/2.
  }];
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$cos, Train_FloatTensor:$sin, UnitAttr:$interleaved, UnitAttr:$inverse);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input `,` $cos `,` $sin attr-dict `:` type($input) `,` type($cos)";
  let hasVerifier = 1;
}

include "zopt/Dialect/Train/TrainIndexingOps.td"
include "zopt/Dialect/Train/TrainingSemanticsOps.td"
include "zopt/Dialect/Train/ConvolutionOps.td"

#endif // ZOPT_DIALECT_TRAIN_OPS_TD
