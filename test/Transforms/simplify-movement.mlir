// RUN: zopt %s --zopt-simplify-movement | FileCheck %s

// PyTorch's exporter exchanges the last two axes of a 4-D tensor through 3-D.
// CHECK-LABEL: func.func @transpose_between_reshapes
// CHECK-NEXT: %[[T:.*]] = train.transpose %{{.*}} [0, 1, 3, 2] : tensor<2x4x8x16xf32> -> tensor<2x4x16x8xf32>
// CHECK-NEXT: return %[[T]]
func.func @transpose_between_reshapes(%k: tensor<2x4x8x16xf32>) -> tensor<2x4x16x8xf32> {
  %0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %1 = train.transpose %0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %2 = train.reshape %1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  return %2 : tensor<2x4x16x8xf32>
}

// An axis of 1 belongs to the axis it is joined with.
// CHECK-LABEL: func.func @one_head
// CHECK-NEXT: train.transpose %{{.*}} [0, 1, 3, 2] : tensor<4x1x8x16xf32> -> tensor<4x1x16x8xf32>
// CHECK-NEXT: return
func.func @one_head(%k: tensor<4x1x8x16xf32>) -> tensor<4x1x16x8xf32> {
  %0 = train.reshape %k : tensor<4x1x8x16xf32> -> tensor<4x8x16xf32>
  %1 = train.transpose %0 [0, 2, 1] : tensor<4x8x16xf32> -> tensor<4x16x8xf32>
  %2 = train.reshape %1 : tensor<4x16x8xf32> -> tensor<4x1x16x8xf32>
  return %2 : tensor<4x1x16x8xf32>
}

// One position: the axis of 1 is one that moves.
// CHECK-LABEL: func.func @one_position
// CHECK-NEXT: train.transpose %{{.*}} [0, 1, 3, 2] : tensor<2x4x1x16xf32> -> tensor<2x4x16x1xf32>
// CHECK-NEXT: return
func.func @one_position(%k: tensor<2x4x1x16xf32>) -> tensor<2x4x16x1xf32> {
  %0 = train.reshape %k : tensor<2x4x1x16xf32> -> tensor<8x1x16xf32>
  %1 = train.transpose %0 [0, 2, 1] : tensor<8x1x16xf32> -> tensor<8x16x1xf32>
  %2 = train.reshape %1 : tensor<8x16x1xf32> -> tensor<2x4x16x1xf32>
  return %2 : tensor<2x4x16x1xf32>
}

// The outer reshape joins what the transpose has brought together.
// CHECK-LABEL: func.func @no_transpose_of_joined_axes
// CHECK-COUNT-2: train.reshape
func.func @no_transpose_of_joined_axes(%x: tensor<8x16xf32>) -> tensor<16x8xf32> {
  %0 = train.reshape %x : tensor<8x16xf32> -> tensor<8x4x4xf32>
  %1 = train.transpose %0 [1, 0, 2] : tensor<8x4x4xf32> -> tensor<4x8x4xf32>
  %2 = train.reshape %1 : tensor<4x8x4xf32> -> tensor<16x8xf32>
  return %2 : tensor<16x8xf32>
}

// The outer reshape takes axes apart in another way than they were: they are apart before they move.
// CHECK-LABEL: func.func @transpose_of_other_axes
// CHECK-NEXT: %[[R:.*]] = train.reshape %{{.*}} : tensor<2x4x8xf32> -> tensor<4x2x8xf32>
// CHECK-NEXT: train.transpose %[[R]] [2, 0, 1] : tensor<4x2x8xf32> -> tensor<8x4x2xf32>
// CHECK-NEXT: return
func.func @transpose_of_other_axes(%x: tensor<2x4x8xf32>) -> tensor<8x4x2xf32> {
  %0 = train.reshape %x : tensor<2x4x8xf32> -> tensor<8x8xf32>
  %1 = train.transpose %0 [1, 0] : tensor<8x8xf32> -> tensor<8x8xf32>
  %2 = train.reshape %1 : tensor<8x8xf32> -> tensor<8x4x2xf32>
  return %2 : tensor<8x4x2xf32>
}

// Grouped heads are joined with their repetitions and with samples in one reshape (two of them, folded).
// CHECK-LABEL: func.func @repeated_heads
// CHECK-NEXT: %[[R:.*]] = train.reshape %{{.*}} : tensor<2x2x2x8x16xf32> -> tensor<2x4x8x16xf32>
// CHECK-NEXT: train.transpose %[[R]] [0, 1, 3, 2]
// CHECK-NEXT: return
func.func @repeated_heads(%k: tensor<2x2x2x8x16xf32>) -> tensor<2x4x16x8xf32> {
  %0 = train.reshape %k : tensor<2x2x2x8x16xf32> -> tensor<8x8x16xf32>
  %1 = train.transpose %0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %2 = train.reshape %1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  return %2 : tensor<2x4x16x8xf32>
}

// An axis of 1 that is added behind a transpose is not moved in front of it.
// CHECK-LABEL: func.func @no_transpose_of_added_axis
// CHECK-NEXT: train.reshape
// CHECK-NEXT: train.transpose {{.*}} [0, 2, 1, 3]
// CHECK-NEXT: train.reshape {{.*}} -> tensor<2x2x1x8x16xf32>
func.func @no_transpose_of_added_axis(%x: tensor<2x8x32xf32>) -> tensor<2x2x1x8x16xf32> {
  %0 = train.reshape %x : tensor<2x8x32xf32> -> tensor<2x8x2x16xf32>
  %1 = train.transpose %0 [0, 2, 1, 3] : tensor<2x8x2x16xf32> -> tensor<2x2x8x16xf32>
  %2 = train.reshape %1 : tensor<2x2x8x16xf32> -> tensor<2x2x1x8x16xf32>
  return %2 : tensor<2x2x1x8x16xf32>
}

// CHECK-LABEL: func.func @nothing
// CHECK-SAME: (%[[X:.*]]: tensor<2x3xf32>)
// CHECK-NEXT: return %[[X]]
func.func @nothing(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %0 = train.slice %x [0, 0] [1, 1] : tensor<2x3xf32> -> tensor<2x3xf32>
  %1 = train.mul %one, %0 : tensor<f32>, tensor<2x3xf32> -> tensor<2x3xf32>
  %2 = train.div %1, %one : tensor<2x3xf32>, tensor<f32> -> tensor<2x3xf32>
  %3 = train.transpose %2 [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  %4 = train.transpose %3 [1, 0] : tensor<3x2xf32> -> tensor<2x3xf32>
  return %4 : tensor<2x3xf32>
}

// A slice that reverses an axis moves elements; a factor of 1 that broadcasts makes a larger tensor.
// CHECK-LABEL: func.func @no_reverse
// CHECK: train.slice
// CHECK: train.mul
func.func @no_reverse(%x: tensor<3xf32>) -> tensor<2x3xf32> {
  %ones = train.constant dense<1.0> : tensor<2x3xf32> : tensor<2x3xf32>
  %0 = train.slice %x [2] [-1] : tensor<3xf32> -> tensor<3xf32>
  %1 = train.mul %0, %ones : tensor<3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
  return %1 : tensor<2x3xf32>
}

// torch.export's mask starts as a conjunction with true.
// CHECK-LABEL: func.func @and_with_true
// CHECK-SAME: (%[[X:.*]]: tensor<2x1x8x8xi1>)
// CHECK-NEXT: return %[[X]]
func.func @and_with_true(%x: tensor<2x1x8x8xi1>) -> tensor<2x1x8x8xi1> {
  %true = train.constant dense<true> : tensor<i1> : tensor<i1>
  %0 = train.and %true, %x : tensor<i1>, tensor<2x1x8x8xi1> -> tensor<2x1x8x8xi1>
  return %0 : tensor<2x1x8x8xi1>
}
