// RUN: zopt %s --split-input-file --verify-diagnostics

func.func @f(%x: tensor<2x4xf32>, %w: tensor<6x4xf32>) {
  // expected-error@+1 {{has an input [2, 4], a weight [6, 4] and an output [2, 6], which must have one rank of 3 to 5}}
  %0 = train.conv %x, %w strides [] dilations [] pads [] : tensor<2x4xf32>, tensor<6x4xf32> -> tensor<2x6xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x9xf32>, %w: tensor<6x4x3xf32>) {
  // expected-error@+1 {{has strides [1, 1], dilations [1] and pads [0, 0] for 1 axes of space}}
  %0 = train.conv %x, %w strides [1, 1] dilations [1] pads [0, 0] : tensor<2x4x9xf32>, tensor<6x4x3xf32> -> tensor<2x6x7xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x9xf32>, %w: tensor<6x4x3xf32>) {
  // expected-error@+1 {{has strides [0] and dilations [1], which must be positive}}
  %0 = train.conv %x, %w strides [0] dilations [1] pads [0, 0] : tensor<2x4x9xf32>, tensor<6x4x3xf32> -> tensor<2x6x7xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x9xf32>, %w: tensor<6x4x3xf32>) {
  // expected-error@+1 {{which do not agree in batch and channels for 2 groups}}
  %0 = train.conv %x, %w strides [1] dilations [1] pads [0, 0] {groups = 2 : i64} : tensor<2x4x9xf32>, tensor<6x4x3xf32> -> tensor<2x6x7xf32>
  return
}

// -----

func.func @f(%w: tensor<6x4x3xf32>, %y: tensor<2x6x8xf32>) {
  // expected-error@+1 {{has 8 output places along axis 2, expected 7 of an input [2, 4, 9] and a window [3]}}
  %0 = train.conv_input_grad %w, %y strides [1] dilations [1] pads [0, 0] : tensor<6x4x3xf32>, tensor<2x6x8xf32> -> tensor<2x4x9xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x9xf32>, %w: tensor<6x4x3xbf16>) {
  // expected-error@+1 {{has tensors of element types 'f32' and 'bf16'}}
  %0 = train.conv %x, %w strides [1] dilations [1] pads [0, 0] : tensor<2x4x9xf32>, tensor<6x4x3xbf16> -> tensor<2x6x7xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x9xf32>, %w: tensor<6x4x3xf32>, %b: tensor<4xf32>) {
  // expected-error@+1 {{has a bias [4] for 6 output channels}}
  %0 = train.conv %x, %w bias %b : tensor<4xf32> strides [1] dilations [1] pads [0, 0] : tensor<2x4x9xf32>, tensor<6x4x3xf32> -> tensor<2x6x7xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x9xf32>, %y: tensor<3x6x7xf32>) {
  // expected-error@+1 {{which do not agree in batch and channels for 1 groups}}
  %0 = train.conv_weight_grad %x, %y strides [1] dilations [1] pads [0, 0] : tensor<2x4x9xf32>, tensor<3x6x7xf32> -> tensor<6x4x3xf32>
  return
}

// -----

func.func @f(%x: tensor<1x3x7xf32>) {
  // expected-error@+1 {{has pads [3, 0] around a window [3], which must be smaller than the dilated window}}
  %0:2 = train.max_pool %x window [3] strides [2] dilations [1] pads [3, 0] : tensor<1x3x7xf32> -> tensor<1x3x4xf32>, tensor<1x3x4xi8>
  return
}

// -----

func.func @f(%x: tensor<1x3x7xf32>) {
  // expected-error@+1 {{has 6 output places along axis 2, expected 3 or 4}}
  %0:2 = train.max_pool %x window [2] strides [2] dilations [1] pads [0, 0] : tensor<1x3x7xf32> -> tensor<1x3x6xf32>, tensor<1x3x6xi8>
  return
}

// -----

func.func @f(%x: tensor<1x3x4xf32>) {
  // expected-error@+1 {{has a window outside the input along axis 2}}
  %0:2 = train.max_pool %x window [2] strides [4] dilations [1] pads [0, 1] : tensor<1x3x4xf32> -> tensor<1x3x2xf32>, tensor<1x3x2xi8>
  return
}

// -----

func.func @f(%x: tensor<1x3x400xf32>) {
  // expected-error@+1 {{has indices of 'i8', which do not hold the 200 elements of a window}}
  %0:2 = train.max_pool %x window [200] strides [200] dilations [1] pads [0, 0] : tensor<1x3x400xf32> -> tensor<1x3x2xf32>, tensor<1x3x2xi8>
  return
}

// -----

func.func @f(%i: tensor<1x3x3xi8>, %y: tensor<1x3x4xf32>) {
  // expected-error@+1 {{has indices [1, 3, 3] for windows [1, 3, 4]}}
  %0 = train.max_pool_grad %i, %y window [2] strides [2] dilations [1] pads [0, 0] : tensor<1x3x3xi8>, tensor<1x3x4xf32> -> tensor<1x3x8xf32>
  return
}

// -----

func.func @f(%x: tensor<1x3x8xf32>) {
  // expected-error@+1 {{counts a margin [0] beside pads [0, 0]}}
  %0 = train.average_pool %x window [2] strides [2] dilations [1] pads [0, 0] counted [0] : tensor<1x3x8xf32> -> tensor<1x3x4xf32>
  return
}

// -----

func.func @f(%y: tensor<1x4x4xf32>) {
  // expected-error@+1 {{which do not agree in batch and channels}}
  %0 = train.average_pool_grad %y window [2] strides [2] dilations [1] pads [0, 0] counted [0, 0] : tensor<1x4x4xf32> -> tensor<1x3x8xf32>
  return
}

// -----

func.func @f(%x: tensor<1x2x4x4x4x4xf32>, %w: tensor<2x2x1x1x1x1xf32>) {
  // expected-error@+1 {{works on 1 to 3 axes of space, but got 4}}
  %0 = train.conv %x, %w strides [1, 1, 1, 1] dilations [1, 1, 1, 1] pads [0, 0, 0, 0, 0, 0, 0, 0] {groups = 1 : i64} : tensor<1x2x4x4x4x4xf32>, tensor<2x2x1x1x1x1xf32> -> tensor<1x2x4x4x4x4xf32>
  return
}

// -----

func.func @f(%x: tensor<1x4x8xf32>, %w: tensor<6x4x1xf32>) {
  // expected-error@+1 {{has an input [1, 4, 8], a weight [6, 4, 1] and an output [1, 6, 8], which do not agree in batch and channels for 2 groups}}
  %0 = train.conv %x, %w strides [1] dilations [1] pads [0, 0] {groups = 2 : i64} : tensor<1x4x8xf32>, tensor<6x4x1xf32> -> tensor<1x6x8xf32>
  return
}

// -----

func.func @f(%x: tensor<1x3x8xf32>) {
  // expected-error@+1 {{has an input [1, 3, 8], an output [1, 3, 4] and a window [2, 2]}}
  %0 = train.average_pool %x window [2, 2] strides [2] dilations [1] pads [0, 0] counted [0, 0] : tensor<1x3x8xf32> -> tensor<1x3x4xf32>
  return
}
