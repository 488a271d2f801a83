// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-channels-last,canonicalize))' | FileCheck %s
// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-channels-last{split-bias=true},canonicalize))' | FileCheck %s --check-prefix=SPLIT

// Between two convolutions nothing is transposed but views of what they write and read: a scale and a shift a channel, and an activation, work on [batch, space..., channels].
// CHECK-LABEL: func.func @chain
// CHECK: %[[C:.*]] = train.conv %arg0, %arg1
// CHECK: %[[L:.*]] = train.transpose %[[C]] [0, 2, 3, 1] : tensor<2x4x6x5xf32> -> tensor<2x6x5x4xf32>
// CHECK: %[[S:.*]] = train.reshape %arg2 : tensor<4x1x1xf32> -> tensor<1x4x1x1xf32>
// CHECK: %[[T:.*]] = train.transpose %[[S]] [0, 2, 3, 1] : tensor<1x4x1x1xf32> -> tensor<1x1x1x4xf32>
// CHECK: %[[M:.*]] = train.mul %[[L]], %[[T]] : tensor<2x6x5x4xf32>, tensor<1x1x1x4xf32> -> tensor<2x6x5x4xf32>
// CHECK: %[[R:.*]] = train.relu %[[M]] : tensor<2x6x5x4xf32>
// CHECK: %[[B:.*]] = train.transpose %[[R]] [0, 3, 1, 2]
// CHECK: train.conv %[[B]], %arg3
func.func @chain(%x: tensor<2x3x6x5xf32>, %w: tensor<4x3x3x3xf32>, %s: tensor<4x1x1xf32>, %v: tensor<2x4x1x1xf32>) -> tensor<2x2x6x5xf32> {
  %0 = train.conv %x, %w strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x3x6x5xf32>, tensor<4x3x3x3xf32> -> tensor<2x4x6x5xf32>
  %1 = train.mul %0, %s : tensor<2x4x6x5xf32>, tensor<4x1x1xf32> -> tensor<2x4x6x5xf32>
  %2 = train.relu %1 : tensor<2x4x6x5xf32>
  %3 = train.conv %2, %v strides [1, 1] dilations [1, 1] pads [0, 0, 0, 0] : tensor<2x4x6x5xf32>, tensor<2x4x1x1xf32> -> tensor<2x2x6x5xf32>
  return %3 : tensor<2x2x6x5xf32>
}

// Sums over batch and space, and over space, of the transposed tensor.
// CHECK-LABEL: func.func @reductions
// CHECK: %[[L:.*]] = train.transpose %{{.*}} [0, 2, 3, 1]
// CHECK: train.reduce_sum %[[L]] [0, 1, 2] : tensor<2x6x5x4xf32> -> tensor<4xf32>
// CHECK: %[[M:.*]] = train.reduce_mean %[[L]] [1, 2] {keepdims} : tensor<2x6x5x4xf32> -> tensor<2x1x1x4xf32>
// CHECK: train.transpose %[[M]] [0, 3, 1, 2]
// CHECK: %[[P:.*]] = train.reduce_max %[[L]] [0] : tensor<2x6x5x4xf32> -> tensor<6x5x4xf32>
// CHECK: train.transpose %[[P]] [2, 0, 1] : tensor<6x5x4xf32> -> tensor<4x6x5xf32>
func.func @reductions(%x: tensor<2x4x6x5xf32>) -> (tensor<4xf32>, tensor<2x4x1x1xf32>, tensor<4x6x5xf32>) {
  %0 = train.average_pool %x window [1, 1] strides [1, 1] dilations [1, 1] pads [0, 0, 0, 0] counted [0, 0, 0, 0] : tensor<2x4x6x5xf32> -> tensor<2x4x6x5xf32>
  %1 = train.reduce_sum %0 [0, 2, 3] : tensor<2x4x6x5xf32> -> tensor<4xf32>
  %2 = train.reduce_mean %0 [2, 3] {keepdims} : tensor<2x4x6x5xf32> -> tensor<2x4x1x1xf32>
  %3 = train.reduce_max %0 [0] : tensor<2x4x6x5xf32> -> tensor<4x6x5xf32>
  return %1, %2, %3 : tensor<4xf32>, tensor<2x4x1x1xf32>, tensor<4x6x5xf32>
}

// Joined and cut along channels.
// CHECK-LABEL: func.func @movement
// CHECK: %[[J:.*]] = train.concat 3, %[[A:.*]], %[[A]] : tensor<1x6x5x2xf32>, tensor<1x6x5x2xf32> -> tensor<1x6x5x4xf32>
// CHECK: train.slice %[[J]] [0, 1, 0, 3] [1, 2, 1, 1] : tensor<1x6x5x4xf32> -> tensor<1x2x5x1xf32>
func.func @movement(%x: tensor<1x2x6x5xf32>) -> tensor<1x1x2x5xf32> {
  %0 = train.average_pool %x window [1, 1] strides [1, 1] dilations [1, 1] pads [0, 0, 0, 0] counted [0, 0, 0, 0] : tensor<1x2x6x5xf32> -> tensor<1x2x6x5xf32>
  %1 = train.concat 1, %0, %0 : tensor<1x2x6x5xf32>, tensor<1x2x6x5xf32> -> tensor<1x4x6x5xf32>
  %2 = train.slice %1 [0, 3, 1, 0] [1, 1, 2, 1] : tensor<1x4x6x5xf32> -> tensor<1x1x2x5xf32>
  return %2 : tensor<1x1x2x5xf32>
}

// Where the graph itself brings channels last before a convolution, what stands between works on that: a scale a channel, and the sum with another such tensor.
// CHECK-LABEL: func.func @brought
// CHECK: %[[S:.*]] = train.mul %arg0, %{{.*}} : tensor<2x6x5x4xf32>, tensor<1x1x1x4xf32> -> tensor<2x6x5x4xf32>
// CHECK: %[[A:.*]] = train.add %[[S]], %arg1 : tensor<2x6x5x4xf32>
// CHECK: %[[B:.*]] = train.transpose %[[A]] [0, 3, 1, 2]
// CHECK: train.conv %[[B]], %arg3
func.func @brought(%x: tensor<2x6x5x4xf32>, %y: tensor<2x6x5x4xf32>, %s: tensor<4x1x1xf32>, %w: tensor<2x4x1x1xf32>) -> tensor<2x2x6x5xf32> {
  %0 = train.transpose %x [0, 3, 1, 2] : tensor<2x6x5x4xf32> -> tensor<2x4x6x5xf32>
  %1 = train.transpose %y [0, 3, 1, 2] : tensor<2x6x5x4xf32> -> tensor<2x4x6x5xf32>
  %2 = train.mul %0, %s : tensor<2x4x6x5xf32>, tensor<4x1x1xf32> -> tensor<2x4x6x5xf32>
  %3 = train.add %2, %1 : tensor<2x4x6x5xf32>, tensor<2x4x6x5xf32> -> tensor<2x4x6x5xf32>
  %4 = train.conv %3, %w strides [1, 1] dilations [1, 1] pads [0, 0, 0, 0] : tensor<2x4x6x5xf32>, tensor<2x4x1x1xf32> -> tensor<2x2x6x5xf32>
  return %4 : tensor<2x2x6x5xf32>
}

// A graph without convolutions stays as it is.
// CHECK-LABEL: func.func @other
// CHECK-NOT: transpose
// CHECK: return
func.func @other(%x: tensor<2x4x6xf32>) -> tensor<2x4x6xf32> {
  %0 = train.relu %x : tensor<2x4x6xf32>
  return %0 : tensor<2x4x6xf32>
}

// CHECK-LABEL: func.func @bias
// CHECK: train.conv %arg0, %arg1 bias %arg2
// SPLIT-LABEL: func.func @bias
// SPLIT: train.conv %arg0, %arg1 strides
// SPLIT: train.add
func.func @bias(%x: tensor<2x3x6xf32>, %w: tensor<4x3x1xf32>, %b: tensor<4xf32>) -> tensor<2x4x6xf32> {
  %0 = train.conv %x, %w bias %b : tensor<4xf32> strides [1] dilations [1] pads [0, 0] : tensor<2x3x6xf32>, tensor<4x3x1xf32> -> tensor<2x4x6xf32>
  return %0 : tensor<2x4x6xf32>
}
