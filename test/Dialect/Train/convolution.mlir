// RUN: zopt %s | zopt | FileCheck %s

// CHECK-LABEL: func.func @convolutions
func.func @convolutions(%x: tensor<2x4x9x8xf32>, %w: tensor<6x2x3x2xf32>, %b: tensor<6xf32>, %y: tensor<2x6x5x8xf32>) {
  // CHECK: train.conv %arg0, %arg1 bias %arg2 : tensor<6xf32> strides [2, 1] dilations [1, 1] pads [1, 0, 1, 1] {groups = 2 : i64} : tensor<2x4x9x8xf32>, tensor<6x2x3x2xf32> -> tensor<2x6x5x8xf32>
  %0 = train.conv %x, %w bias %b : tensor<6xf32> strides [2, 1] dilations [1, 1] pads [1, 0, 1, 1] {groups = 2 : i64} : tensor<2x4x9x8xf32>, tensor<6x2x3x2xf32> -> tensor<2x6x5x8xf32>
  // CHECK: train.conv_input_grad %arg1, %arg3 strides [2, 1]
  %1 = train.conv_input_grad %w, %y strides [2, 1] dilations [1, 1] pads [1, 0, 1, 1] {groups = 2 : i64} : tensor<6x2x3x2xf32>, tensor<2x6x5x8xf32> -> tensor<2x4x9x8xf32>
  // CHECK: train.conv_weight_grad %arg0, %arg3 strides [2, 1]
  %2 = train.conv_weight_grad %x, %y strides [2, 1] dilations [1, 1] pads [1, 0, 1, 1] {groups = 2 : i64} : tensor<2x4x9x8xf32>, tensor<2x6x5x8xf32> -> tensor<6x2x3x2xf32>
  return
}

// CHECK-LABEL: func.func @pools
func.func @pools(%x: tensor<1x3x7xbf16>, %y: tensor<1x3x4xbf16>) {
  // CHECK: %result, %indices = train.max_pool %arg0 window [3] strides [2] dilations [1] pads [1, 1] : tensor<1x3x7xbf16> -> tensor<1x3x4xbf16>, tensor<1x3x4xi8>
  %0:2 = train.max_pool %x window [3] strides [2] dilations [1] pads [1, 1] : tensor<1x3x7xbf16> -> tensor<1x3x4xbf16>, tensor<1x3x4xi8>
  // CHECK: train.max_pool_grad %indices, %arg1 window [3]
  %1 = train.max_pool_grad %0#1, %y window [3] strides [2] dilations [1] pads [1, 1] : tensor<1x3x4xi8>, tensor<1x3x4xbf16> -> tensor<1x3x7xbf16>
  // CHECK: train.average_pool %arg0 window [3] strides [2] dilations [1] pads [1, 1] counted [0, 0]
  %2 = train.average_pool %x window [3] strides [2] dilations [1] pads [1, 1] counted [0, 0] : tensor<1x3x7xbf16> -> tensor<1x3x4xbf16>
  // CHECK: train.average_pool_grad %arg1 window [3]
  %3 = train.average_pool_grad %y window [3] strides [2] dilations [1] pads [1, 1] counted [0, 0] : tensor<1x3x4xbf16> -> tensor<1x3x7xbf16>
  return
}
