// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-pad-channels,canonicalize))' | FileCheck %s

// An image's three channels become eight, as do the weight's; the result's sixteen are eights already.
// CHECK-LABEL: func.func @image
// CHECK: %[[X:.*]] = train.transpose %arg0 [0, 2, 3, 1] : tensor<2x3x6x5xbf16> -> tensor<2x6x5x3xbf16>
// CHECK: %[[XP:.*]] = train.slice_grad %[[X]] [0, 0, 0, 0] [1, 1, 1, 1] : tensor<2x6x5x3xbf16> -> tensor<2x6x5x8xbf16>
// CHECK: %[[XB:.*]] = train.transpose %[[XP]] [0, 3, 1, 2] : tensor<2x6x5x8xbf16> -> tensor<2x8x6x5xbf16>
// CHECK: %[[W:.*]] = train.transpose %arg1 [0, 2, 3, 1]
// CHECK: %[[WP:.*]] = train.slice_grad %[[W]] [0, 0, 0, 0] [1, 1, 1, 1] : tensor<16x3x3x3xbf16> -> tensor<16x3x3x8xbf16>
// CHECK: %[[WB:.*]] = train.transpose %[[WP]] [0, 3, 1, 2] : tensor<16x3x3x8xbf16> -> tensor<16x8x3x3xbf16>
// CHECK: %[[Y:.*]] = train.conv %[[XB]], %[[WB]] strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x8x6x5xbf16>, tensor<16x8x3x3xbf16> -> tensor<2x16x6x5xbf16>
// CHECK: return %[[Y]]
func.func @image(%x: tensor<2x3x6x5xbf16>, %w: tensor<16x3x3x3xbf16>) -> tensor<2x16x6x5xbf16> {
  %0 = train.conv %x, %w strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x3x6x5xbf16>, tensor<16x3x3x3xbf16> -> tensor<2x16x6x5xbf16>
  return %0 : tensor<2x16x6x5xbf16>
}

// A result with more channels than asked for is cut, and a bias grows with them.
// CHECK-LABEL: func.func @output
// CHECK: train.slice_grad %{{.*}} : tensor<5x1x1x8xbf16> -> tensor<8x1x1x8xbf16>
// CHECK: %[[B:.*]] = train.slice_grad %arg2 [0] [1] : tensor<5xbf16> -> tensor<8xbf16>
// CHECK: train.conv %arg0, %{{.*}} bias %[[B]]{{.*}} -> tensor<2x8x6x5xbf16>
// CHECK: train.slice %{{.*}} [0, 0, 0, 0] [1, 1, 1, 1] : tensor<2x6x5x8xbf16> -> tensor<2x6x5x5xbf16>
func.func @output(%x: tensor<2x8x6x5xbf16>, %w: tensor<5x8x1x1xbf16>, %b: tensor<5xbf16>) -> tensor<2x5x6x5xbf16> {
  %0 = train.conv %x, %w bias %b : tensor<5xbf16> strides [1, 1] dilations [1, 1] pads [0, 0, 0, 0] : tensor<2x8x6x5xbf16>, tensor<5x8x1x1xbf16> -> tensor<2x5x6x5xbf16>
  return %0 : tensor<2x5x6x5xbf16>
}

// Both gradients, of which one is wide.
// CHECK-LABEL: func.func @gradients
// CHECK: %[[DX:.*]] = train.conv_input_grad %{{.*}} -> tensor<2x8x6x5xf16>
// CHECK: train.slice %{{.*}} : tensor<2x6x5x8xf16> -> tensor<2x6x5x3xf16>
// CHECK: %[[DW:.*]] = train.conv_weight_grad %{{.*}} -> tensor<16x8x3x3xf32>
// CHECK: train.slice %{{.*}} : tensor<16x3x3x8xf32> -> tensor<16x3x3x3xf32>
func.func @gradients(%x: tensor<2x3x6x5xf16>, %w: tensor<16x3x3x3xf16>, %dy: tensor<2x16x6x5xf16>) -> (tensor<2x3x6x5xf16>, tensor<16x3x3x3xf32>) {
  %0 = train.conv_input_grad %w, %dy strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<16x3x3x3xf16>, tensor<2x16x6x5xf16> -> tensor<2x3x6x5xf16>
  %1 = train.conv_weight_grad %x, %dy strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x3x6x5xf16>, tensor<2x16x6x5xf16> -> tensor<16x3x3x3xf32>
  return %0, %1 : tensor<2x3x6x5xf16>, tensor<16x3x3x3xf32>
}

// Neither groups nor fp32.
// CHECK-LABEL: func.func @others
// CHECK-NOT: slice
// CHECK: return
func.func @others(%x: tensor<2x6x6x5xbf16>, %w: tensor<6x1x3x3xbf16>, %y: tensor<2x3x6x5xf32>, %v: tensor<16x3x3x3xf32>) -> (tensor<2x6x6x5xbf16>, tensor<2x16x6x5xf32>) {
  %0 = train.conv %x, %w strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] {groups = 6 : i64} : tensor<2x6x6x5xbf16>, tensor<6x1x3x3xbf16> -> tensor<2x6x6x5xbf16>
  %1 = train.conv %y, %v strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x3x6x5xf32>, tensor<16x3x3x3xf32> -> tensor<2x16x6x5xf32>
  return %0, %1 : tensor<2x6x6x5xbf16>, tensor<2x16x6x5xf32>
}
