// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-decompose-attention,canonicalize))' | FileCheck %s
// RUN: not zopt %s --pass-pipeline='builtin.module(func.func(zopt-decompose-attention{library=onednn}))' 2>&1 | FileCheck %s --check-prefix=LIBRARY
// LIBRARY: error: library is 'onednn', expected none or cudnn

// Two heads share one key and value: their queries are rows of one product. Scores in fp32, probabilities in the operands' type.
// CHECK-LABEL: func.func @forward
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x3x8xbf16>, %[[K:.*]]: tensor<2x2x5x8xbf16>, %[[V:.*]]: tensor<2x2x5x6xbf16>, %[[MASK:.*]]: tensor<3x5xi1>)
// CHECK: %[[ROWS:.*]] = train.reshape %[[Q]] : tensor<2x4x3x8xbf16> -> tensor<2x2x6x8xbf16>
// CHECK: %[[S:.*]] = train.matmul %[[ROWS]], %[[K]] {scale = 2.500000e-01 : f64, transpose_rhs} : tensor<2x2x6x8xbf16>, tensor<2x2x5x8xbf16> -> tensor<2x2x6x5xf32>
// CHECK: %[[SH:.*]] = train.reshape %[[S]] : tensor<2x2x6x5xf32> -> tensor<2x4x3x5xf32>
// CHECK: %[[P:.*]], %[[LSE:.*]] = train.attention_probabilities %[[SH]] mask %[[MASK]] : tensor<3x5xi1> {causal} : tensor<2x4x3x5xf32> -> tensor<2x4x3x5xbf16>, tensor<2x4x3xf32>
// CHECK: %[[PR:.*]] = train.reshape %[[P]] : tensor<2x4x3x5xbf16> -> tensor<2x2x6x5xbf16>
// CHECK: %[[O:.*]] = train.matmul %[[PR]], %[[V]] : tensor<2x2x6x5xbf16>, tensor<2x2x5x6xbf16> -> tensor<2x2x6x6xbf16>
// CHECK: %[[OH:.*]] = train.reshape %[[O]] : tensor<2x2x6x6xbf16> -> tensor<2x4x3x6xbf16>
// CHECK: return %[[OH]], %[[LSE]]
func.func @forward(%q: tensor<2x4x3x8xbf16>, %k: tensor<2x2x5x8xbf16>, %v: tensor<2x2x5x6xbf16>, %mask: tensor<3x5xi1>) -> (tensor<2x4x3x6xbf16>, tensor<2x4x3xf32>) {
  %o, %lse = train.attention %q, %k, %v mask %mask : tensor<3x5xi1> {causal, scale = 0.25 : f64} : tensor<2x4x3x8xbf16>, tensor<2x2x5x8xbf16>, tensor<2x2x5x6xbf16> -> tensor<2x4x3x6xbf16>, tensor<2x4x3xf32>
  return %o, %lse : tensor<2x4x3x6xbf16>, tensor<2x4x3xf32>
}

// One head a group: no reshape. The products with the scores' cotangent carry the scale.
// CHECK-LABEL: func.func @backward
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x3x8xf32>, %[[K:.*]]: tensor<2x4x5x8xf32>, %[[V:.*]]: tensor<2x4x5x6xf32>, %[[O:.*]]: tensor<2x4x3x6xf32>, %[[LSE:.*]]: tensor<2x4x3xf32>, %[[DO:.*]]: tensor<2x4x3x6xf32>)
// CHECK-NOT: train.reshape
// CHECK: %[[S:.*]] = train.matmul %[[Q]], %[[K]] {scale = 2.500000e-01 : f64, transpose_rhs}
// CHECK: %[[DP:.*]] = train.matmul %[[DO]], %[[V]] {transpose_rhs} : tensor<2x4x3x6xf32>, tensor<2x4x5x6xf32> -> tensor<2x4x3x5xf32>
// CHECK: %[[P:.*]], %[[DS:.*]] = train.attention_scores_grad %[[S]] lse %[[LSE]] dp %[[DP]] output %[[O]] cotangent %[[DO]]
// CHECK: %[[DQ:.*]] = train.matmul %[[DS]], %[[K]] {scale = 2.500000e-01 : f64} : tensor<2x4x3x5xf32>, tensor<2x4x5x8xf32> -> tensor<2x4x3x8xf32>
// CHECK: %[[DK:.*]] = train.matmul %[[DS]], %[[Q]] {scale = 2.500000e-01 : f64, transpose_lhs} : tensor<2x4x3x5xf32>, tensor<2x4x3x8xf32> -> tensor<2x4x5x8xf32>
// CHECK: %[[DV:.*]] = train.matmul %[[P]], %[[DO]] {transpose_lhs} : tensor<2x4x3x5xf32>, tensor<2x4x3x6xf32> -> tensor<2x4x5x6xf32>
// CHECK: return %[[DQ]], %[[DK]], %[[DV]]
func.func @backward(%q: tensor<2x4x3x8xf32>, %k: tensor<2x4x5x8xf32>, %v: tensor<2x4x5x6xf32>, %o: tensor<2x4x3x6xf32>, %lse: tensor<2x4x3xf32>, %do: tensor<2x4x3x6xf32>) -> (tensor<2x4x3x8xf32>, tensor<2x4x5x8xf32>, tensor<2x4x5x6xf32>) {
  %d:3 = train.attention_grad %q, %k, %v output %o lse %lse cotangent %do {scale = 0.25 : f64} : tensor<2x4x3x8xf32>, tensor<2x4x5x8xf32>, tensor<2x4x5x6xf32>, tensor<2x4x3x6xf32>, tensor<2x4x3xf32>, tensor<2x4x3x6xf32> -> tensor<2x4x3x8xf32>, tensor<2x4x5x8xf32>, tensor<2x4x5x6xf32>
  return %d#0, %d#1, %d#2 : tensor<2x4x3x8xf32>, tensor<2x4x5x8xf32>, tensor<2x4x5x6xf32>
}

// cuDNN has attention in narrow types without a mask, and its gradient; fp32 and masks are products there too.
// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-decompose-attention{library=cudnn}))' | FileCheck %s --check-prefix=CUDNN
// CUDNN-LABEL: func.func @forward
// CUDNN-NOT: train.attention %
// CUDNN-LABEL: func.func @backward
// CUDNN-NOT: train.attention_grad
// CUDNN-LABEL: func.func @in_library
// CUDNN: train.attention %
func.func @in_library(%q: tensor<2x4x3x8xbf16>, %k: tensor<2x2x5x8xbf16>) -> (tensor<2x4x3x8xbf16>, tensor<2x4x3xf32>) {
  %o, %lse = train.attention %q, %k, %k {causal, scale = 0.25 : f64} : tensor<2x4x3x8xbf16>, tensor<2x2x5x8xbf16>, tensor<2x2x5x8xbf16> -> tensor<2x4x3x8xbf16>, tensor<2x4x3xf32>
  return %o, %lse : tensor<2x4x3x8xbf16>, tensor<2x4x3xf32>
}
