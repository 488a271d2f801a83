// RUN: zopt %s --zopt-raise-linear | FileCheck %s

// GPT-2's Conv1D from torch.export: reshape, Gemm, reshape.
// CHECK-LABEL: func.func @conv1d
// CHECK-SAME: (%[[X:.*]]: tensor<2x8x64xf32>, %[[W:.*]]: tensor<64x192xf32>, %[[B:.*]]: tensor<192xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.matmul %[[X]], %[[W]] bias %[[B]] : tensor<192xf32> : tensor<2x8x64xf32>, tensor<64x192xf32> -> tensor<2x8x192xf32>
// CHECK-NEXT: return %[[Y]]
func.func @conv1d(%x: tensor<2x8x64xf32>, %w: tensor<64x192xf32>, %b: tensor<192xf32>) -> tensor<2x8x192xf32> {
  %0 = train.reshape %x : tensor<2x8x64xf32> -> tensor<16x64xf32>
  %1 = train.matmul %0, %w bias %b : tensor<192xf32> : tensor<16x64xf32>, tensor<64x192xf32> -> tensor<16x192xf32>
  %2 = train.reshape %1 : tensor<16x192xf32> -> tensor<2x8x192xf32>
  return %2 : tensor<2x8x192xf32>
}

// Behind attention heads and rows are joined by one reshape.
// CHECK-LABEL: func.func @output_projection
// CHECK-NEXT: %[[X:.*]] = train.reshape %{{.*}} : tensor<2x8x4x16xf32> -> tensor<2x8x64xf32>
// CHECK-NEXT: train.matmul %[[X]], %{{.*}} : tensor<2x8x64xf32>, tensor<64x64xf32> -> tensor<2x8x64xf32>
// CHECK-NEXT: return
func.func @output_projection(%x: tensor<2x8x4x16xf32>, %w: tensor<64x64xf32>) -> tensor<2x8x64xf32> {
  %0 = train.reshape %x : tensor<2x8x4x16xf32> -> tensor<16x64xf32>
  %1 = train.matmul %0, %w : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
  %2 = train.reshape %1 : tensor<16x64xf32> -> tensor<2x8x64xf32>
  return %2 : tensor<2x8x64xf32>
}

// Heads are split at once: rows first, heads then.
// CHECK-LABEL: func.func @split_heads
// CHECK-NEXT: %[[Y:.*]] = train.matmul %{{.*}} : tensor<2x8x64xf32>, tensor<64x64xf32> -> tensor<2x8x64xf32>
// CHECK-NEXT: train.reshape %[[Y]] : tensor<2x8x64xf32> -> tensor<2x8x4x16xf32>
// CHECK-NEXT: return
func.func @split_heads(%x: tensor<2x8x64xf32>, %w: tensor<64x64xf32>) -> tensor<2x8x4x16xf32> {
  %0 = train.reshape %x : tensor<2x8x64xf32> -> tensor<16x64xf32>
  %1 = train.matmul %0, %w : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
  %2 = train.reshape %1 : tensor<16x64xf32> -> tensor<2x8x4x16xf32>
  return %2 : tensor<2x8x4x16xf32>
}

// A product of rows that is used as such stays.
// CHECK-LABEL: func.func @no_reshape
// CHECK-NEXT: train.reshape
// CHECK-NEXT: train.matmul %{{.*}} : tensor<16x64xf32>, tensor<64x10xf32> -> tensor<16x10xf32>
// CHECK-NEXT: return
func.func @no_reshape(%x: tensor<2x8x64xf32>, %w: tensor<64x10xf32>) -> tensor<16x10xf32> {
  %0 = train.reshape %x : tensor<2x8x64xf32> -> tensor<16x64xf32>
  %1 = train.matmul %0, %w : tensor<16x64xf32>, tensor<64x10xf32> -> tensor<16x10xf32>
  return %1 : tensor<16x10xf32>
}

// A Linear layer of torch.export without constant folding: Transpose, MatMul, Add.
// CHECK-LABEL: func.func @linear
// CHECK-SAME: (%[[X:.*]]: tensor<2x8x64xf32>, %[[W:.*]]: tensor<172x64xf32>, %[[B:.*]]: tensor<172xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.matmul %[[X]], %[[W]] bias %[[B]] : tensor<172xf32> {transpose_rhs} : tensor<2x8x64xf32>, tensor<172x64xf32> -> tensor<2x8x172xf32>
// CHECK-NEXT: return %[[Y]]
func.func @linear(%x: tensor<2x8x64xf32>, %w: tensor<172x64xf32>, %b: tensor<172xf32>) -> tensor<2x8x172xf32> {
  %0 = train.transpose %w [1, 0] : tensor<172x64xf32> -> tensor<64x172xf32>
  %1 = train.matmul %x, %0 : tensor<2x8x64xf32>, tensor<64x172xf32> -> tensor<2x8x172xf32>
  %2 = train.add %b, %1 : tensor<172xf32>, tensor<2x8x172xf32> -> tensor<2x8x172xf32>
  return %2 : tensor<2x8x172xf32>
}

// A vector with axes of 1 is a bias if it comes from a parameter.
// CHECK-LABEL: func.func @bias_with_leading_axes
// CHECK: %[[B:.*]] = train.reshape %{{.*}} : tensor<1x1x10xf32> -> tensor<10xf32>
// CHECK: train.matmul %{{.*}} bias %[[B]]
train.state @b : tensor<1x1x10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
func.func @bias_with_leading_axes(%x: tensor<2x8x64xf32>, %w: tensor<64x10xf32>) -> tensor<2x8x10xf32> {
  %b = train.read_state @b : tensor<1x1x10xf32>
  %0 = train.matmul %x, %w : tensor<2x8x64xf32>, tensor<64x10xf32> -> tensor<2x8x10xf32>
  %1 = train.add %0, %b : tensor<2x8x10xf32>, tensor<1x1x10xf32> -> tensor<2x8x10xf32>
  return %1 : tensor<2x8x10xf32>
}

// One sample at one position: what is added is a residual, not a bias.
// CHECK-LABEL: func.func @no_residual_as_bias
// CHECK: train.matmul
// CHECK-NOT: bias
// CHECK: train.add
func.func @no_residual_as_bias(%x: tensor<1x1x64xf32>, %w: tensor<64x64xf32>) -> tensor<1x1x64xf32> {
  %0 = train.matmul %x, %w : tensor<1x1x64xf32>, tensor<64x64xf32> -> tensor<1x1x64xf32>
  %1 = train.add %0, %x : tensor<1x1x64xf32>, tensor<1x1x64xf32> -> tensor<1x1x64xf32>
  return %1 : tensor<1x1x64xf32>
}

// The product without bias is used too.
// CHECK-LABEL: func.func @no_bias_of_shared_product
// CHECK: train.matmul
// CHECK-NOT: bias
// CHECK: train.add
func.func @no_bias_of_shared_product(%x: tensor<8x64xf32>, %w: tensor<64x10xf32>, %b: tensor<10xf32>) -> (tensor<8x10xf32>, tensor<8x10xf32>) {
  %0 = train.matmul %x, %w : tensor<8x64xf32>, tensor<64x10xf32> -> tensor<8x10xf32>
  %1 = train.add %0, %b : tensor<8x10xf32>, tensor<10xf32> -> tensor<8x10xf32>
  return %0, %1 : tensor<8x10xf32>, tensor<8x10xf32>
}

// Scores: factors on both operands, keys transposed with their heads. Heads stay a transpose, the last two axes become a flag.
// CHECK-LABEL: func.func @scores
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x8x4x16xf32>)
// CHECK-NEXT: %[[T:.*]] = train.transpose %[[K]] [0, 2, 1, 3]
// CHECK-NEXT: train.matmul %[[Q]], %[[T]] {scale = 1.250000e-01 : f64, transpose_rhs} : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x8xf32>
// CHECK-NEXT: return
func.func @scores(%q: tensor<2x4x8x16xf32>, %k: tensor<2x8x4x16xf32>) -> tensor<2x4x8x8xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %two = train.constant dense<2.0> : tensor<f32> : tensor<f32>
  %0 = train.mul %q, %half : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %1 = train.transpose %k [0, 2, 3, 1] : tensor<2x8x4x16xf32> -> tensor<2x4x16x8xf32>
  %2 = train.mul %half, %1 : tensor<f32>, tensor<2x4x16x8xf32> -> tensor<2x4x16x8xf32>
  %3 = train.matmul %0, %2 : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %4 = train.div %3, %two : tensor<2x4x8x8xf32>, tensor<f32> -> tensor<2x4x8x8xf32>
  return %4 : tensor<2x4x8x8xf32>
}

// A factor behind a bias scales the bias too.
// CHECK-LABEL: func.func @no_scale_behind_bias
// CHECK: train.matmul %{{.*}} bias
// CHECK-NOT: scale
// CHECK: train.mul
func.func @no_scale_behind_bias(%x: tensor<8x64xf32>, %w: tensor<64x10xf32>, %b: tensor<10xf32>) -> tensor<8x10xf32> {
  %two = train.constant dense<2.0> : tensor<f32> : tensor<f32>
  %0 = train.matmul %x, %w bias %b : tensor<10xf32> : tensor<8x64xf32>, tensor<64x10xf32> -> tensor<8x10xf32>
  %1 = train.mul %0, %two : tensor<8x10xf32>, tensor<f32> -> tensor<8x10xf32>
  return %1 : tensor<8x10xf32>
}

// What is added to a product of two batches is a mask, say, and no bias.
// CHECK-LABEL: func.func @no_bias_of_batches
// CHECK: train.matmul
// CHECK-NOT: bias
// CHECK: train.add
func.func @no_bias_of_batches(%q: tensor<4x8x16xf32>, %k: tensor<4x16x8xf32>, %b: tensor<8xf32>) -> tensor<4x8x8xf32> {
  %0 = train.matmul %q, %k : tensor<4x8x16xf32>, tensor<4x16x8xf32> -> tensor<4x8x8xf32>
  %1 = train.add %0, %b : tensor<4x8x8xf32>, tensor<8xf32> -> tensor<4x8x8xf32>
  return %1 : tensor<4x8x8xf32>
}
