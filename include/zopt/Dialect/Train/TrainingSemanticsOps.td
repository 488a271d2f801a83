//===- TrainingSemanticsOps.td - dropout, batch-norm ---------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ops that mean something else in training than in inference. Included by TrainOps.td.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_TRAININGSEMANTICSOPS_TD
#define ZOPT_DIALECT_TRAIN_TRAININGSEMANTICSOPS_TD

//===----------------------------------------------------------------------===//
// Random numbers
//===----------------------------------------------------------------------===//

class Train_RandomOp<string mnemonic, string text, list<Trait> traits> : Train_Op<mnemonic, [Pure, ElementwiseTrait] # traits> {
  let summary = text;
  let arguments = (ins Train_FloatTensor:$input, Variadic<Train_IntTensor>:$random, F64Attr:$ratio, I64Attr:$id, OptionalAttr<DenseI64ArrayAttr>:$layout);
  let hasVerifier = 1;
}

def Train_DropoutOp : Train_RandomOp<"dropout", "x / (1 - ratio) where an element is kept, x * 0 where it is not", [AllTypesMatch<["input", "result"]>, Differentiable]> {
  let description = [{
    An element is kept where its random number, 32 bits as an unsigned integer, is at least ratio * 2^32 (rounded to nearest). The number is word e % 4 of
    Philox4x32-10 with key (seed, `id`) and counter (e / 4, sample, step, 0): `e` is the element's place within its sample, `sample` the sample's position in the
    global batch. So masks depend neither on ranks, accumulation and stage, nor on what is recomputed or fused, and none is saved: the derivative is dropout of the
    cotangent with the same numbers.

    `layout` is [outer, batch, inner]: element p (row-major) belongs to sample (p / inner) % batch of the micro-batch, in which it is number
    p / (inner * batch) * inner + p % inner. `random` is two i64 scalars, the key (seed * 2^32 + id) and the counter (step * 2^32 + the position of the micro-batch's first
    sample). A value that is the same for all samples has one mask: batch is 1 and the counter's position 0. `zopt-add-random-state` makes both; until then they are
    absent.

    ```mlir
    %y = train.dropout %x random(%key, %counter : tensor<i64>, tensor<i64>) {id = 3 : i64, layout = array<i64: 1, 4, 8192>, ratio = 1.0e-01 : f64} : tensor<4x128x64xf32>
    ```

    Constraints:
    - (C1) 0 <= ratio < 1 and 0 <= id < 2^32.
    - (C2) a layout has three sizes of at least 1 whose product is the number of elements; `batch` is a factor of one axis, as row-major order has it.
    - (C3) `random` is two i64 scalars, together with a layout, or absent.
  }];
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input (`random` `(` $random^ `:` type($random) `)`)? attr-dict `:` type($result)";
}

def Train_DropoutMaskOp : Train_RandomOp<"dropout_mask", "which elements a dropout of the same attributes and numbers keeps", []> {
  let description = [{Reads nothing of the input but its shape. (C1) to (C3) as of `dropout`; (C4) the result has the input's shape.}];
  let results = (outs Train_BoolTensor:$result);
  let assemblyFormat = "$input (`random` `(` $random^ `:` type($random) `)`)? attr-dict `:` type($input) `->` type($result)";
}

def Train_UniformOp : Train_Op<"uniform", [Pure, ElementwiseTrait, Differentiable]> {
  let summary = "random numbers in [0, 1), of which 24 bits are drawn";
  let description = [{
    Each is its random number of 32 bits, as `dropout` has it, shifted right by 8 and divided by 2^24. The input tells shape and samples, its values are not read: the derivative is
    zero. Other than dropout it draws in evaluation too.
    (C1) 0 <= id < 2^32; (C2), (C3) as of `dropout`; (C4) the result has the input's shape and is of f32 or f64.
  }];
  let arguments = (ins Train_Tensor:$input, Variadic<Train_IntTensor>:$random, I64Attr:$id, OptionalAttr<DenseI64ArrayAttr>:$layout);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input (`random` `(` $random^ `:` type($random) `)`)? attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Train_NormalOp : Train_Op<"normal", [Pure, ElementwiseTrait, Differentiable]> {
  let summary = "random numbers of the standard normal distribution, of which 24 bits are drawn";
  let description = [{
    Box and Muller (1958): of the numbers u and v that `uniform` has for an element of an even place and the one after it, the former is
    sqrt(-2 ln(1 - u)) cos(2 pi v) and the latter the same with the sine: at most 5.77 from 0. Always computed in fp32, where 1 - u is exact. Input, derivative and evaluation as of
    `uniform`.
    (C1) 0 <= id < 2^32; (C2), (C3) as of `dropout`; (C4) the result has the input's shape and is of f32 or f64.
  }];
  let arguments = (ins Train_Tensor:$input, Variadic<Train_IntTensor>:$random, I64Attr:$id, OptionalAttr<DenseI64ArrayAttr>:$layout);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input (`random` `(` $random^ `:` type($random) `)`)? attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Batch normalization. Channels are axis 1 of the input; statistics are in fp32 (f64 for f64).
//===----------------------------------------------------------------------===//

def Train_BatchStatisticsOp : Train_Op<"batch_statistics", [Pure, AllTypesMatch<["mean", "variance"]>, Differentiable]> {
  let summary = "mean and population variance of each channel, over all other axes";
  let description = [{
    The variance is the mean of squared distances from the mean, in a second pass. The order of both sums depends on the shape and target alone. Has no derivative of its
    own: `batch_norm` with `training` contains it.
    (C1) the input has at least two axes; (C2) the results are vectors of the size of axis 1.
  }];
  let arguments = (ins Train_FloatTensor:$input);
  let results = (outs Train_FloatTensor:$mean, Train_FloatTensor:$variance);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($mean)";
  let hasVerifier = 1;
}

def Train_BatchNormOp : Train_Op<"batch_norm", [Pure, ElementwiseTrait, AllTypesMatch<["mean", "variance"]>, AllTypesMatch<["gamma", "beta"]>, AllTypesMatch<["input", "result"]>, Differentiable]> {
  let summary = "(x - mean) / sqrt(variance + epsilon) * gamma + beta";
  let description = [{
    Everything but the input is [C, 1, ...], an axis shorter than the input, or [1, ..., C] where `zopt-channels-last` has put channels last. With `training`, mean and variance are those of `batch_statistics` on the input (over all
    ranks' inputs with `synchronized`), and the derivative is also that through them; without, they have derivatives of their own.
    (C1) the four vectors have one of these shapes; (C2) `synchronized` only with `training`.
  }];
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$mean, Train_FloatTensor:$variance, Train_FloatTensor:$gamma, Train_FloatTensor:$beta, F64Attr:$epsilon, UnitAttr:$training, UnitAttr:$synchronized);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input `mean` $mean `variance` $variance `gamma` $gamma `beta` $beta attr-dict `:` type($input) `,` type($mean) `,` type($gamma)";
  let hasVerifier = 1;
}

def Train_BatchNormSumsOp : Train_Op<"batch_norm_sums", [Pure, AttrSizedOperandSegments, AllTypesMatch<["mean", "variance"]>, AllTypesMatch<["sum", "product"]>, AllTypesMatch<["input", "cotangent"]>]> {
  let summary = "of each channel: sum of dy, and of dy * (x - mean) / sqrt(variance + epsilon)";
  let description = [{
    The derivatives of beta and gamma, and with `training` what the derivative of the input is made of. With `relu`, dy counts only where x * scale + shift, rounded to the input's type, is above 0: the cotangent is then
    that of a rectifier behind the normalization. (C1) mean and variance are as in `batch_norm`; (C2) the results are
    vectors of C elements; (C3) scale and shift are both there or neither, with as many elements as the mean.
  }];
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$mean, Train_FloatTensor:$variance, Train_FloatTensor:$cotangent, Optional<Train_FloatTensor>:$scale, Optional<Train_FloatTensor>:$shift, F64Attr:$epsilon);
  let results = (outs Train_FloatTensor:$sum, Train_FloatTensor:$product);
  let assemblyFormat = "$input `mean` $mean `variance` $variance `cotangent` $cotangent (`relu` $scale^ `,` $shift `:` type($scale) `,` type($shift))? attr-dict `:` type($input) `,` type($mean) `->` type($sum)";
  let hasVerifier = 1;
}

def Train_BatchNormGradOp : Train_Op<"batch_norm_grad", [Pure, ElementwiseTrait, AllTypesMatch<["mean", "variance"]>, AllTypesMatch<["input", "cotangent", "result"]>]> {
  let summary = "dx of batch_norm: gamma / sqrt(variance + epsilon) * (dy - (sum + (x - mean) / sqrt(variance + epsilon) * product) / count)";
  let description = [{
    `sums` are the two results of `batch_norm_sums`, in the shape of the mean; without them, statistics are constants and the part in parentheses is dy.
    (C1) mean, variance and gamma are as in `batch_norm`; (C2) there are none or two sums, of the mean's type.
  }];
  let arguments = (ins Train_FloatTensor:$input, Train_FloatTensor:$mean, Train_FloatTensor:$variance, Train_FloatTensor:$gamma, Train_FloatTensor:$cotangent, Variadic<Train_FloatTensor>:$sums, F64Attr:$epsilon, F64Attr:$count);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input `mean` $mean `variance` $variance `gamma` $gamma `cotangent` $cotangent (`sums` `(` $sums^ `:` type($sums) `)`)? attr-dict `:` type($input) `,` type($mean) `,` type($gamma)";
  let hasVerifier = 1;
}

def Train_RunningAverageOp : Train_Op<"running_average", [MemoryEffects<[MemRead, MemWrite]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "moves a buffer toward a value, once a micro-step: state = state * momentum + value * (1 - momentum)";
  let description = [{
    What the micro-steps of a step add up to is averaged over ranks and takes effect when the step is applied: a skipped step leaves the state as it was. Stands in forward graphs;
    `zopt-add-running-averages` writes it as states and additions. Has no meaning in the modes forward and gradient, where it goes.
    (C1) the state is a buffer of the value's shape; (C2) 0 <= momentum <= 1.
  }];
  let arguments = (ins FlatSymbolRefAttr:$state, Train_FloatTensor:$value, F64Attr:$momentum);
  let assemblyFormat = "$state `,` $value attr-dict `:` type($value)";
  let hasVerifier = 1;
}

def Train_MeanOverRanksOp : Train_Op<"mean_over_ranks", [MemoryEffects<[MemRead]>, AllTypesMatch<["input", "result"]>, Differentiable]> {
  let summary = "mean of the ranks' values, summed in rank order";
  let description = [{`zopt-materialize-collectives` makes a `zero.all_reduce` of it. Not pure, so that backward does not exchange again what forward did.}];
  let arguments = (ins Train_FloatTensor:$input);
  let results = (outs Train_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}

#endif // ZOPT_DIALECT_TRAIN_TRAININGSEMANTICSOPS_TD
