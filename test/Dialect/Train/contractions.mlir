// RUN: zopt %s --verify-roundtrip | FileCheck %s

// CHECK-LABEL: func.func @matmul
func.func @matmul(%a: tensor<2x3x4xbf16>, %b: tensor<5x4xbf16>, %c: tensor<7x1x3x6xbf16>, %bias: tensor<5xbf16>) {
  // CHECK: train.matmul %{{.*}}, %{{.*}} bias %{{.*}} : tensor<5xbf16> {transpose_rhs} : tensor<2x3x4xbf16>, tensor<5x4xbf16> -> tensor<2x3x5xbf16>
  %0 = train.matmul %a, %b bias %bias : tensor<5xbf16> {transpose_rhs} : tensor<2x3x4xbf16>, tensor<5x4xbf16> -> tensor<2x3x5xbf16>
  // A wider result, and a broadcast batch.
  // CHECK: train.matmul %{{.*}}, %{{.*}} {scale = 5.000000e-01 : f64, transpose_lhs} : tensor<2x3x4xbf16>, tensor<7x1x3x6xbf16> -> tensor<7x2x4x6xf32>
  %1 = train.matmul %a, %c {scale = 0.5 : f64, transpose_lhs} : tensor<2x3x4xbf16>, tensor<7x1x3x6xbf16> -> tensor<7x2x4x6xf32>
  return
}

// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %v: tensor<2x2x5x6xf32>, %mask: tensor<2x1x1x5xi1>) {
  // CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} mask %{{.*}} : tensor<2x1x1x5xi1> {causal, scale = 2.500000e-01 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x6xf32> -> tensor<2x4x3x6xf32>, tensor<2x4x3xf32>
  %o, %lse = train.attention %q, %k, %v mask %mask : tensor<2x1x1x5xi1> {causal, scale = 0.25 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x6xf32> -> tensor<2x4x3x6xf32>, tensor<2x4x3xf32>
  // CHECK: train.attention_grad %{{.*}}, %{{.*}}, %{{.*}} output %{{.*}} lse %{{.*}} cotangent %{{.*}} {scale = 2.500000e-01 : f64}
  %d:3 = train.attention_grad %q, %k, %v output %o lse %lse cotangent %o {scale = 0.25 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x6xf32>, tensor<2x4x3x6xf32>, tensor<2x4x3xf32>, tensor<2x4x3x6xf32> -> tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x6xf32>
  return
}

// CHECK-LABEL: func.func @attention_rows
func.func @attention_rows(%s: tensor<2x4x3x5xf32>, %o: tensor<2x4x3x6xbf16>, %mask: tensor<3x5xf32>) {
  // CHECK: train.attention_probabilities %{{.*}} mask %{{.*}} : tensor<3x5xf32> : tensor<2x4x3x5xf32> -> tensor<2x4x3x5xbf16>, tensor<2x4x3xf32>
  %p, %lse = train.attention_probabilities %s mask %mask : tensor<3x5xf32> : tensor<2x4x3x5xf32> -> tensor<2x4x3x5xbf16>, tensor<2x4x3xf32>
  // CHECK: train.attention_scores_grad %{{.*}} lse %{{.*}} dp %{{.*}} output %{{.*}} cotangent %{{.*}} {causal}
  %d:2 = train.attention_scores_grad %s lse %lse dp %s output %o cotangent %o {causal} : tensor<2x4x3x5xf32>, tensor<2x4x3xf32>, tensor<2x4x3x5xf32>, tensor<2x4x3x6xbf16>, tensor<2x4x3x6xbf16> -> tensor<2x4x3x5xbf16>, tensor<2x4x3x5xbf16>
  return
}

// CHECK-LABEL: func.func @rotary
func.func @rotary(%x: tensor<2x4x3x8xbf16>, %cos: tensor<1x1x3x4xf32>) {
  // CHECK: train.rotary %{{.*}}, %{{.*}}, %{{.*}} {interleaved, inverse} : tensor<2x4x3x8xbf16>, tensor<1x1x3x4xf32>
  %0 = train.rotary %x, %cos, %cos {interleaved, inverse} : tensor<2x4x3x8xbf16>, tensor<1x1x3x4xf32>
  return
}
// CHECK-LABEL: func.func @fused_matmul
func.func @fused_matmul(%x: tensor<2x3x4xbf16>, %w: tensor<4x5xbf16>, %bias: tensor<5xbf16>, %dy: tensor<6x5xbf16>, %v: tensor<6x4xbf16>) {
  // CHECK: train.fused_matmul %{{.*}}, %{{.*}} bias %{{.*}} {epilogue = 1 : i32{{.*}}} : (tensor<2x3x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>) -> (tensor<2x3x5xbf16>, tensor<2x3x5xbf16>)
  %y, %p = train.fused_matmul %x, %w bias %bias {epilogue = 1 : i32, resultSegmentSizes = array<i32: 1, 1, 0>} : (tensor<2x3x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>) -> (tensor<2x3x5xbf16>, tensor<2x3x5xbf16>)
  // CHECK: train.fused_matmul %{{.*}}, %{{.*}} aux %{{.*}} {bias_gradient_kind = 3 : i32, epilogue = 2 : i32{{.*}}, transpose_rhs}
  %d, %s = train.fused_matmul %y, %w aux %x {bias_gradient_kind = 3 : i32, epilogue = 2 : i32, resultSegmentSizes = array<i32: 1, 0, 1>, transpose_rhs} : (tensor<2x3x5xbf16>, tensor<4x5xbf16>, tensor<2x3x4xbf16>) -> (tensor<2x3x4xbf16>, tensor<4xbf16>)
  // CHECK: train.fused_matmul %{{.*}}, %{{.*}} {bias_gradient_kind = 2 : i32{{.*}}, transpose_lhs}
  %dw, %db = train.fused_matmul %v, %dy {bias_gradient_kind = 2 : i32, resultSegmentSizes = array<i32: 1, 0, 1>, transpose_lhs} : (tensor<6x4xbf16>, tensor<6x5xbf16>) -> (tensor<4x5xbf16>, tensor<5xbf16>)
  // CHECK: train.fused_matmul %{{.*}}, %{{.*}} bias %{{.*}} addend %{{.*}} {{{.*}}} : (tensor<2x3x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>, tensor<2x3x5xbf16>) -> tensor<2x3x5xbf16>
  %r = train.fused_matmul %x, %w bias %bias addend %y {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<2x3x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>, tensor<2x3x5xbf16>) -> tensor<2x3x5xbf16>
  return
}
