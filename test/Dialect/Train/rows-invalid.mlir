// RUN: zopt %s --split-input-file --verify-diagnostics

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{axes [1x0] are not sorted and unique below rank 2}}
  %0 = train.reduce_sum %x [1, 0] : tensor<2x3xf32> -> tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{axes [2] are not sorted and unique below rank 2}}
  %0 = train.reduce_mean %x [2] : tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{result has shape [3], expected [1x3]}}
  %0 = train.reduce_max %x [0] {keepdims} : tensor<2x3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2xi64>) {
  // expected-error@+1 {{result has element type 'i32', expected 'i64'}}
  %0 = train.reduce_sum %x [0] : tensor<2xi64> -> tensor<i32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{gamma has shape [2], expected [3]}}
  %0:3 = train.layer_norm %x gamma %s : tensor<2xf32> {epsilon = 1.0e-5 : f64} : tensor<2x3xf32> -> tensor<2x3xf32>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{result is 'tensor<2x3xbf16>', expected 'tensor<2x3xf32>'}}
  %0:3 = train.layer_norm %x {epsilon = 1.0e-5 : f64} : tensor<2x3xf32> -> tensor<2x3xbf16>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{mean has shape [3], expected [2]}}
  %0:3 = train.layer_norm %x {epsilon = 1.0e-5 : f64} : tensor<2x3xf32> -> tensor<2x3xf32>, tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf64>) {
  // expected-error@+1 {{mean has element type 'f32', expected 'f64'}}
  %0:3 = train.layer_norm %x {epsilon = 1.0e-5 : f64} : tensor<2x3xf64> -> tensor<2x3xf64>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{cotangent has shape [3], expected [2x3]}}
  %0 = train.layer_norm_grad %x mean %s rstd %s cotangent %v : tensor<2x3xf32>, tensor<2xf32>, tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{gamma's gradient has shape [2], expected [3]}}
  %0:2 = train.layer_norm_parameter_grad %x mean %s rstd %s cotangent %x : tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32> -> tensor<2xf32>, tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{gamma has shape [2], expected [3]}}
  %0:2 = train.rms_norm %x gamma %s : tensor<2xf32> {epsilon = 1.0e-5 : f64} : tensor<2x3xf32> -> tensor<2x3xf32>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{rstd has shape [3], expected [2]}}
  %0:2 = train.rms_norm %x {epsilon = 1.0e-5 : f64} : tensor<2x3xf32> -> tensor<2x3xf32>, tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{result is 'tensor<3xf32>', expected 'tensor<2x3xf32>'}}
  %0 = train.rms_norm_grad %x rstd %s cotangent %x : tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{gamma's gradient has shape [2], expected [3]}}
  %0 = train.rms_norm_parameter_grad %x rstd %s cotangent %x : tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32> -> tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>, %y: tensor<3xi64>) {
  // expected-error@+1 {{labels has shape [3], expected [2]}}
  %0:3 = train.cross_entropy %x, %y : tensor<2x3xf32>, tensor<3xi64> -> tensor<f32>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>, %y: tensor<2xi64>) {
  // expected-error@+1 {{lse has shape [3], expected [2]}}
  %0:3 = train.cross_entropy %x, %y : tensor<2x3xf32>, tensor<2xi64> -> tensor<f32>, tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>, %y: tensor<2xi64>) {
  // expected-error@+1 {{label_smoothing 2.000000e+00 is not between 0 and 1}}
  %0:3 = train.cross_entropy %x, %y {label_smoothing = 2.0 : f64} : tensor<2x3xf32>, tensor<2xi64> -> tensor<f32>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %y: tensor<2xi64>, %l: tensor<2xf32>, %s: tensor<f32>) {
  // expected-error@+1 {{result is 'tensor<2xf32>', expected 'tensor<2x3xf32>'}}
  %0 = train.cross_entropy_grad %x, %y, %l, %s : tensor<2x3xf32>, tensor<2xi64>, tensor<2xf32>, tensor<f32> -> tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<f32>) {
  // expected-error@+1 {{has an input of rank 0}}
  %0:2 = train.rms_norm %x {epsilon = 1.0e-5 : f64} : tensor<f32> -> tensor<f32>, tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{addend is 'tensor<3xf32>', expected 'tensor<2x3xf32>'}}
  %0 = train.layer_norm_grad %x mean %s rstd %s cotangent %x addend %v : tensor<3xf32> : tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %v: tensor<3xf32>) {
  // expected-error@+1 {{addend is 'tensor<3xf32>', expected 'tensor<2x3xf32>'}}
  %0 = train.rms_norm_grad %x rstd %s cotangent %x addend %v : tensor<3xf32> : tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>) {
  // expected-error@+1 {{gamma's gradient has shape [2], expected [3]}}
  %0:2 = train.rms_norm_grad %x rstd %s cotangent %x : tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32> -> tensor<2x3xf32> parameters tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>) {
  // expected-error@+1 {{sum has shape [2x3], expected [3]}}
  %0:2 = train.layer_norm_grad %x mean %s rstd %s cotangent %x : tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32> sum tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %y: tensor<2xi64>, %z: tensor<3xi64>, %s: tensor<f32>) {
  // expected-error@+1 {{labels has shape [3], expected [2]}}
  %0:3 = train.cross_entropy_step %x, %z, %s : tensor<2x3xf32>, tensor<3xi64>, tensor<f32> -> tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %y: tensor<2xi64>, %z: tensor<3xi64>, %s: tensor<f32>) {
  // expected-error@+1 {{loss has shape [2], expected []}}
  %0:3 = train.cross_entropy_step %x, %y, %s : tensor<2x3xf32>, tensor<2xi64>, tensor<f32> -> tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %y: tensor<2xi64>, %z: tensor<3xi64>, %s: tensor<f32>) {
  // expected-error@+1 {{loss has element type 'f64', expected 'f32'}}
  %0:3 = train.cross_entropy_step %x, %y, %s : tensor<2x3xf32>, tensor<2xi64>, tensor<f32> -> tensor<f64>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %y: tensor<2xi64>, %z: tensor<3xi64>, %s: tensor<f32>) {
  // expected-error@+1 {{label_smoothing}}
  %0:3 = train.cross_entropy_step %x, %y, %s {label_smoothing = 2.0 : f64} : tensor<2x3xf32>, tensor<2xi64>, tensor<f32> -> tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<f32>, %y: tensor<i64>, %s: tensor<f32>) {
  // expected-error@+1 {{has an input of rank 0}}
  %0:3 = train.cross_entropy_step %x, %y, %s : tensor<f32>, tensor<i64>, tensor<f32> -> tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %y: tensor<3xi64>) {
  // expected-error@+1 {{labels has shape [3], expected [2]}}
  %0 = train.count_correct %x, %y : tensor<2x3xf32>, tensor<3xi64> -> tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %y: tensor<2xi64>) {
  // expected-error@+1 {{count has shape [2], expected []}}
  %0 = train.count_correct %x, %y : tensor<2x3xf32>, tensor<2xi64> -> tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf64>, %y: tensor<2xi64>) {
  // expected-error@+1 {{count has element type 'f32', expected 'f64'}}
  %0 = train.count_correct %x, %y : tensor<2x3xf64>, tensor<2xi64> -> tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<f32>, %y: tensor<i64>) {
  // expected-error@+1 {{has an input of rank 0}}
  %0 = train.count_correct %x, %y : tensor<f32>, tensor<i64> -> tensor<f32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{result has shape [3], expected [1x3]}}
  %0 = train.reduce_prod %x [0] {keepdims} : tensor<2x3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x3xf32>, %s: tensor<2xf32>) {
  // expected-error@+1 {{has gamma's gradient without beta's}}
  %0:2 = "train.layer_norm_grad"(%x, %s, %s, %x) {operandSegmentSizes = array<i32: 1, 0, 1, 1, 1, 0>, resultSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<3xf32>)
  return
}
