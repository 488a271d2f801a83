// RUN: zopt %s --zopt-autodiff | FileCheck %s

// Both cotangents of a convolution, and the bias's as a sum; the maximum's goes to the element that the indices name.
module {
  train.state @w : tensor<4x3x3xf32> {role = #train.role<parameter>, trained}
  train.state @b : tensor<4xf32> {role = #train.role<parameter>, trained}
  train.state @v : tensor<2x4x1xf32> {role = #train.role<parameter>, trained}
  // CHECK-LABEL: func.func @micro_step
  func.func @micro_step(%x: tensor<1x3x6xf32>) {
    %w = train.read_state @w : tensor<4x3x3xf32>
    %b = train.read_state @b : tensor<4xf32>
    %v = train.read_state @v : tensor<2x4x1xf32>
    %0 = train.conv %x, %w bias %b : tensor<4xf32> strides [1] dilations [1] pads [1, 1] : tensor<1x3x6xf32>, tensor<4x3x3xf32> -> tensor<1x4x6xf32>
    // CHECK: %[[P:.*]], %[[I:.*]] = train.max_pool
    %1:2 = train.max_pool %0 window [2] strides [2] dilations [1] pads [0, 0] : tensor<1x4x6xf32> -> tensor<1x4x3xf32>, tensor<1x4x3xi8>
    %2 = train.conv %1#0, %v strides [1] dilations [1] pads [0, 0] : tensor<1x4x3xf32>, tensor<2x4x1xf32> -> tensor<1x2x3xf32>
    %loss = train.reduce_sum %2 [0, 1, 2] : tensor<1x2x3xf32> -> tensor<f32>
    %seed = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    // CHECK: train.backward
    train.backward %loss seed %seed : tensor<f32>
    // CHECK: %[[DP:.*]] = train.conv_input_grad %{{.*}}, %[[DY:.*]] strides [1] dilations [1] pads [0, 0]
    // CHECK: train.conv_weight_grad %[[P]], %[[DY]]
    // CHECK: %[[DC:.*]] = train.max_pool_grad %[[I]], %[[DP]]
    // CHECK: train.conv_weight_grad %arg0, %[[DC]] strides [1] dilations [1] pads [1, 1]
    // CHECK: train.reduce_sum %[[DC]] [0, 2]
    // CHECK-NOT: train.conv_input_grad
    return
  }
}
