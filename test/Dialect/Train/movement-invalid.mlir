// RUN: zopt %s --split-input-file --verify-diagnostics

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{reshapes [2x3] to [5], which has another number of elements}}
  %0 = train.reshape %x : tensor<2x3xf32> -> tensor<5xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{result has element type 'f64', expected 'f32'}}
  %0 = train.reshape %x : tensor<2x3xf32> -> tensor<6xf64>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{permutation [0x0] does not permute 2 axes}}
  %0 = train.transpose %x [0, 0] : tensor<2x3xf32> -> tensor<2x2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{permutation [0] does not permute 2 axes}}
  %0 = train.transpose %x [0] : tensor<2x3xf32> -> tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{result has shape [2x3], expected [3x2]}}
  %0 = train.transpose %x [1, 0] : tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{has 1 starts and 2 strides between ranks 2 and 2}}
  %0 = train.slice %x [0] [1, 1] : tensor<2x3xf32> -> tensor<1x1xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{reads positions 1 to 3 of axis 1, which has 3}}
  %0 = train.slice %x [0, 1] [1, 2] : tensor<2x3xf32> -> tensor<2x2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{reads positions 0 to -1 of axis 0, which has 2}}
  %0 = train.slice %x [0, 0] [-1, 1] : tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{has stride 0 on axis 1}}
  %0 = train.slice %x [0, 0] [1, 0] : tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{reads positions 2 to 4 of axis 1, which has 4}}
  %0 = train.slice_grad %x [0, 2] [1, 1] : tensor<2x3xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{axis 2 is out of range for rank 2}}
  %0 = train.concat 2, %x, %x : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{operands have 6 along axis 1 but the result 7}}
  %0 = train.concat 1, %x, %x : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x7xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{operand has shape [2x3], expected [4x3]}}
  %0 = train.concat 1, %x, %x : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<4x6xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{shape [2x3] does not broadcast to [3x2]}}
  %0 = train.broadcast %x : tensor<2x3xf32> -> tensor<3x2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %i: tensor<4xi64>) {
  // expected-error@+1 {{result has shape [2x4], expected [4x3]}}
  %0 = train.gather %x, %i 0 : tensor<2x3xf32>, tensor<4xi64> -> tensor<2x4xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %i: tensor<4xi64>) {
  // expected-error@+1 {{axis 2 is out of range for rank 2}}
  %0 = train.gather %x, %i 2 : tensor<2x3xf32>, tensor<4xi64> -> tensor<2x4xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %i: tensor<4xi64>) {
  // expected-error@+1 {{cotangent has shape [2x3], expected [4x3]}}
  %0 = train.gather_grad %x, %i 0 : tensor<2x3xf32>, tensor<4xi64> -> tensor<7x3xf32>
  return
}

// -----

func.func @f() {
  // expected-error@+1 {{has no operand}}
  %0 = "train.concat"() {axis = 0 : i64} : () -> tensor<2xf32>
  return
}
