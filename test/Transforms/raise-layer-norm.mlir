// RUN: zopt %s --zopt-raise-layer-norm | FileCheck %s

// TorchScript below opset 17.
// CHECK-LABEL: func.func @torchscript
// CHECK-SAME: (%[[X:.*]]: tensor<2x8x64xf32>, %[[G:.*]]: tensor<64xf32>, %[[B:.*]]: tensor<64xf32>)
// CHECK-NEXT: %[[Y:.*]], %{{.*}}, %{{.*}} = train.layer_norm %[[X]] gamma %[[G]] : tensor<64xf32> beta %[[B]] : tensor<64xf32> {epsilon = 9.9999997473787516E-6 : f64} : tensor<2x8x64xf32> -> tensor<2x8x64xf32>, tensor<2x8xf32>
// CHECK-NEXT: return %[[Y]]
func.func @torchscript(%x: tensor<2x8x64xf32>, %gamma: tensor<64xf32>, %beta: tensor<64xf32>) -> tensor<2x8x64xf32> {
  %exponent = train.constant dense<2.0> : tensor<f32> : tensor<f32>
  %mean = train.reduce_mean %x [2] {keepdims} : tensor<2x8x64xf32> -> tensor<2x8x1xf32>
  %d = train.sub %x, %mean : tensor<2x8x64xf32>, tensor<2x8x1xf32> -> tensor<2x8x64xf32>
  %square = train.pow %d, %exponent : tensor<2x8x64xf32>, tensor<f32> -> tensor<2x8x64xf32>
  %variance = train.reduce_mean %square [2] {keepdims} : tensor<2x8x64xf32> -> tensor<2x8x1xf32>
  %eps = train.constant dense<1.0e-05> : tensor<f32> : tensor<f32>
  %shifted = train.add %variance, %eps : tensor<2x8x1xf32>, tensor<f32> -> tensor<2x8x1xf32>
  %root = train.sqrt %shifted : tensor<2x8x1xf32>
  %n = train.div %d, %root : tensor<2x8x64xf32>, tensor<2x8x1xf32> -> tensor<2x8x64xf32>
  %scaled = train.mul %n, %gamma : tensor<2x8x64xf32>, tensor<64xf32> -> tensor<2x8x64xf32>
  %y = train.add %scaled, %beta : tensor<2x8x64xf32>, tensor<64xf32> -> tensor<2x8x64xf32>
  return %y : tensor<2x8x64xf32>
}

// The difference computed twice, x*x for x^2, Rsqrt, no keepdims, operands the other way round.
// CHECK-LABEL: func.func @other_spelling
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf64>, %[[B:.*]]: tensor<32xf64>)
// CHECK-NEXT: %[[G:.*]] = train.read_state @gamma
// CHECK-NEXT: %[[V:.*]] = train.reshape %[[G]] : tensor<1x32xf64> -> tensor<32xf64>
// CHECK-NEXT: train.layer_norm %[[X]] gamma %[[V]] : tensor<32xf64> beta %[[B]] : tensor<32xf64> {epsilon = 9.9999999999999995E-7 : f64} : tensor<4x32xf64> -> tensor<4x32xf64>, tensor<4xf64>
// CHECK-NEXT: return
train.state @gamma : tensor<1x32xf64> {role = #train.role<parameter>, trained, init = 1.0 : f64}
func.func @other_spelling(%x: tensor<4x32xf64>, %beta: tensor<32xf64>) -> tensor<4x32xf64> {
  %gamma = train.read_state @gamma : tensor<1x32xf64>
  %epsilon = train.constant dense<1.0e-06> : tensor<f64> : tensor<f64>
  %m0 = train.reduce_mean %x [1] : tensor<4x32xf64> -> tensor<4xf64>
  %m1 = train.reshape %m0 : tensor<4xf64> -> tensor<4x1xf64>
  %d0 = train.sub %x, %m1 : tensor<4x32xf64>, tensor<4x1xf64> -> tensor<4x32xf64>
  %m2 = train.reduce_mean %x [1] : tensor<4x32xf64> -> tensor<4xf64>
  %m3 = train.reshape %m2 : tensor<4xf64> -> tensor<4x1xf64>
  %d1 = train.sub %x, %m3 : tensor<4x32xf64>, tensor<4x1xf64> -> tensor<4x32xf64>
  %square = train.mul %d1, %d1 : tensor<4x32xf64>, tensor<4x32xf64> -> tensor<4x32xf64>
  %v = train.reduce_mean %square [1] {keepdims} : tensor<4x32xf64> -> tensor<4x1xf64>
  %shifted = train.add %epsilon, %v : tensor<f64>, tensor<4x1xf64> -> tensor<4x1xf64>
  %rstd = train.rsqrt %shifted : tensor<4x1xf64>
  %n = train.mul %rstd, %d0 : tensor<4x1xf64>, tensor<4x32xf64> -> tensor<4x32xf64>
  %scaled = train.mul %gamma, %n : tensor<1x32xf64>, tensor<4x32xf64> -> tensor<4x32xf64>
  %y = train.add %beta, %scaled : tensor<32xf64>, tensor<4x32xf64> -> tensor<4x32xf64>
  return %y : tensor<4x32xf64>
}

// Without gamma and beta; what follows is no vector.
// CHECK-LABEL: func.func @no_affine
// CHECK: train.layer_norm %{{[a-z0-9]+}} {epsilon = 9.9999997473787516E-6 : f64}
// CHECK-NEXT: train.mul
// CHECK-NOT: train.reduce_mean
func.func @no_affine(%x: tensor<4x32xf32>, %gate: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %epsilon = train.constant dense<1.0e-05> : tensor<f32> : tensor<f32>
  %mean = train.reduce_mean %x [1] {keepdims} : tensor<4x32xf32> -> tensor<4x1xf32>
  %d = train.sub %x, %mean : tensor<4x32xf32>, tensor<4x1xf32> -> tensor<4x32xf32>
  %square = train.mul %d, %d : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %variance = train.reduce_mean %square [1] {keepdims} : tensor<4x32xf32> -> tensor<4x1xf32>
  %shifted = train.add %variance, %epsilon : tensor<4x1xf32>, tensor<f32> -> tensor<4x1xf32>
  %root = train.sqrt %shifted : tensor<4x1xf32>
  %inverse = train.reciprocal %root : tensor<4x1xf32>
  %n = train.mul %d, %inverse : tensor<4x32xf32>, tensor<4x1xf32> -> tensor<4x32xf32>
  %y = train.mul %n, %gate : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// The normalized value has another use: a beta of its own would compute it twice.
// CHECK-LABEL: func.func @no_beta_of_shared_norm
// CHECK: train.layer_norm
// CHECK-NOT: beta
// CHECK: train.add
func.func @no_beta_of_shared_norm(%x: tensor<4x32xf32>, %b: tensor<32xf32>) -> (tensor<4x32xf32>, tensor<4x32xf32>) {
  %n, %mean, %rstd = train.layer_norm %x {epsilon = 1.0e-05 : f64} : tensor<4x32xf32> -> tensor<4x32xf32>, tensor<4xf32>
  %y = train.add %n, %b : tensor<4x32xf32>, tensor<32xf32> -> tensor<4x32xf32>
  return %n, %y : tensor<4x32xf32>, tensor<4x32xf32>
}

// One sample at one position: a residual behind a norm is no beta.
// CHECK-LABEL: func.func @no_residual_as_beta
// CHECK: train.layer_norm
// CHECK-NOT: beta
// CHECK: train.add
func.func @no_residual_as_beta(%x: tensor<1x1x32xf32>, %r: tensor<1x1x32xf32>) -> tensor<1x1x32xf32> {
  %n, %mean, %rstd = train.layer_norm %x {epsilon = 1.0e-05 : f64} : tensor<1x1x32xf32> -> tensor<1x1x32xf32>, tensor<1x1xf32>
  %y = train.add %n, %r : tensor<1x1x32xf32>, tensor<1x1x32xf32> -> tensor<1x1x32xf32>
  return %y : tensor<1x1x32xf32>
}

// A variance of something else, and a mean over rows.
// CHECK-LABEL: func.func @no_layer_norm
// CHECK-NOT: train.layer_norm
// CHECK: return
func.func @no_layer_norm(%x: tensor<32x32xf32>, %z: tensor<32x32xf32>) -> (tensor<32x32xf32>, tensor<32x32xf32>) {
  %mean = train.reduce_mean %x [1] {keepdims} : tensor<32x32xf32> -> tensor<32x1xf32>
  %d = train.sub %x, %mean : tensor<32x32xf32>, tensor<32x1xf32> -> tensor<32x32xf32>
  %s0 = train.mul %z, %z : tensor<32x32xf32>, tensor<32x32xf32> -> tensor<32x32xf32>
  %v0 = train.reduce_mean %s0 [1] {keepdims} : tensor<32x32xf32> -> tensor<32x1xf32>
  %r0 = train.rsqrt %v0 : tensor<32x1xf32>
  %y0 = train.mul %d, %r0 : tensor<32x32xf32>, tensor<32x1xf32> -> tensor<32x32xf32>
  %columns = train.reduce_mean %x [0] {keepdims} : tensor<32x32xf32> -> tensor<1x32xf32>
  %e = train.sub %x, %columns : tensor<32x32xf32>, tensor<1x32xf32> -> tensor<32x32xf32>
  %s1 = train.mul %e, %e : tensor<32x32xf32>, tensor<32x32xf32> -> tensor<32x32xf32>
  %v1 = train.reduce_mean %s1 [0] {keepdims} : tensor<32x32xf32> -> tensor<1x32xf32>
  %r1 = train.rsqrt %v1 : tensor<1x32xf32>
  %y1 = train.mul %e, %r1 : tensor<32x32xf32>, tensor<1x32xf32> -> tensor<32x32xf32>
  return %y0, %y1 : tensor<32x32xf32>, tensor<32x32xf32>
}
