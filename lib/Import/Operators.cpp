//===- Operators.cpp - the table of ONNX operators ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Operators.h"
#include "Fold.h"

namespace zopt::importer {

llvm::ArrayRef<Operator> operators() {
  static const Operator table[] = {
      {"Abs", 13, lowerUnary, foldUnary, "abs", true},
      {"Add", 13, lowerBinary, foldBinary, "add", true},
      {"And", 13, lowerBinary, foldBinary, "and", false},
      {"Attention", 23, lowerAttention, nullptr, "attention", true},
      {"BatchNormalization", 9, lowerBatchNormalization, nullptr, "batch_norm", true},
      {"Cast", 13, lowerCast, foldCast, "cast", true},
      {"CastLike", 15, lowerCast, foldCast, "cast", true},
      {"Ceil", 13, lowerUnary, foldUnary, "ceil", true},
      {"Clip", 13, lowerClip, nullptr, "min, max", true},
      {"Concat", 13, lowerConcat, foldConcat, "concat", true},
      {"Constant", 13, lowerConstant, nullptr, "constant", false},
      {"ConstantOfShape", 13, lowerKnownOnly, foldConstantOfShape, "constant", false},
      {"Cos", 13, lowerUnary, foldUnary, "cos", true},
      {"CumSum", 14, lowerKnownOnly, foldCumSum, "(known values)", false},
      {"Div", 13, lowerBinary, foldBinary, "div", true},
      {"Dropout", 13, lowerDropout, nullptr, "dropout (inference: nothing)", true},
      {"Equal", 13, lowerCompare, foldBinary, "compare", false},
      {"Erf", 13, lowerUnary, foldUnary, "erf", true},
      {"Exp", 13, lowerUnary, foldUnary, "exp", true},
      {"Expand", 13, lowerExpand, foldExpand, "broadcast", true},
      {"Flatten", 13, lowerReshape, foldReshape, "reshape", true},
      {"Floor", 13, lowerUnary, foldUnary, "floor", true},
      {"Gather", 13, lowerGather, foldGather, "gather, slice", true},
      {"GatherND", 13, lowerKnownOnly, foldGatherND, "(known values)", false},
      {"Gelu", 20, lowerGelu, nullptr, "gelu", true},
      {"Gemm", 13, lowerGemm, nullptr, "matmul", true},
      {"Greater", 13, lowerCompare, foldBinary, "compare", false},
      {"GreaterOrEqual", 13, lowerCompare, foldBinary, "compare", false},
      {"Identity", 13, lowerIdentity, nullptr, "(nothing)", true},
      {"IsNaN", 13, lowerIsNaN, foldUnary, "is_nan", false},
      {"LayerNormalization", 17, lowerLayerNormalization, nullptr, "layer_norm", true},
      {"Less", 13, lowerCompare, foldBinary, "compare", false},
      {"LessOrEqual", 13, lowerCompare, foldBinary, "compare", false},
      {"Log", 13, lowerUnary, foldUnary, "log", true},
      {"LogSoftmax", 13, lowerSoftmax, nullptr, "log_softmax", true},
      {"MatMul", 13, lowerMatMul, nullptr, "matmul", true},
      {"Max", 13, lowerBinary, foldBinary, "max", true},
      {"Min", 13, lowerBinary, foldBinary, "min", true},
      {"Mod", 13, lowerKnownOnly, foldBinary, "(known values)", false},
      {"Mul", 13, lowerBinary, foldBinary, "mul", true},
      {"Neg", 13, lowerUnary, foldUnary, "neg", true},
      {"Not", 13, lowerUnary, foldUnary, "not", false},
      {"Or", 13, lowerBinary, foldBinary, "or", false},
      {"Pow", 13, lowerBinary, foldBinary, "pow", true},
      {"RMSNormalization", 23, lowerRMSNormalization, nullptr, "rms_norm", true},
      {"Range", 13, lowerKnownOnly, foldRange, "iota", false},
      {"Reciprocal", 13, lowerUnary, foldUnary, "reciprocal", true},
      {"ReduceMax", 13, lowerReduce, foldReduce, "reduce_max", true},
      {"ReduceMean", 13, lowerReduce, nullptr, "reduce_mean", true},
      {"ReduceMin", 13, lowerKnownOnly, foldReduce, "(known values)", false},
      {"ReduceProd", 13, lowerKnownOnly, foldReduce, "(known values)", false},
      {"ReduceSum", 13, lowerReduce, foldReduce, "reduce_sum", true},
      {"Relu", 13, lowerUnary, nullptr, "relu", true},
      {"Reshape", 13, lowerReshape, foldReshape, "reshape", true},
      {"RotaryEmbedding", 23, lowerRotaryEmbedding, nullptr, "rotary", true},
      {"Shape", 13, lowerShape, nullptr, "(known values)", false},
      {"Sigmoid", 13, lowerUnary, foldUnary, "sigmoid", true},
      {"Sign", 13, lowerUnary, foldUnary, "sign", true},
      {"Sin", 13, lowerUnary, foldUnary, "sin", true},
      {"Size", 13, lowerSize, nullptr, "(known values)", false},
      {"Slice", 13, lowerSlice, foldSlice, "slice", true},
      {"Softmax", 13, lowerSoftmax, nullptr, "softmax", true},
      {"Softplus", 13, lowerUnary, nullptr, "softplus", true},
      {"Split", 13, lowerSplit, foldSplit, "slice", true},
      {"Sqrt", 13, lowerUnary, foldUnary, "sqrt", true},
      {"Squeeze", 13, lowerReshape, foldReshape, "reshape", true},
      {"Sub", 13, lowerBinary, foldBinary, "sub", true},
      {"Sum", 13, lowerBinary, nullptr, "add", true},
      {"Tanh", 13, lowerUnary, foldUnary, "tanh", true},
      {"Tile", 13, lowerKnownOnly, foldTile, "(known values)", false},
      {"Transpose", 13, lowerTranspose, foldTranspose, "transpose", true},
      {"Trilu", 14, lowerTrilu, foldTrilu, "select", true},
      {"Unsqueeze", 13, lowerReshape, foldReshape, "reshape", true},
      {"Where", 13, lowerWhere, foldWhere, "select", true},
      {"Xor", 13, lowerKnownOnly, foldBinary, "(known values)", false},
  };
  return table;
}

} // namespace zopt::importer
