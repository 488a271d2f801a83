// RUN: zopt %s --verify-roundtrip | FileCheck %s

// CHECK-LABEL: func.func @reductions
func.func @reductions(%x: tensor<2x3x4xbf16>) {
  // The sum rounds once, to a type of its own.
  // CHECK: train.reduce_sum %{{.*}} [0, 2] : tensor<2x3x4xbf16> -> tensor<3xf32>
  %0 = train.reduce_sum %x [0, 2] : tensor<2x3x4xbf16> -> tensor<3xf32>
  // CHECK: train.reduce_mean %{{.*}} [1] {keepdims} : tensor<2x3x4xbf16> -> tensor<2x1x4xbf16>
  %1 = train.reduce_mean %x [1] {keepdims} : tensor<2x3x4xbf16> -> tensor<2x1x4xbf16>
  // CHECK: train.reduce_max %{{.*}} [] : tensor<2x3x4xbf16> -> tensor<2x3x4xbf16>
  %2 = train.reduce_max %x [] : tensor<2x3x4xbf16> -> tensor<2x3x4xbf16>
  return
}

// CHECK-LABEL: func.func @softmax
func.func @softmax(%x: tensor<2x3xf32>) {
  // CHECK: train.softmax %{{.*}} : tensor<2x3xf32>
  %0 = train.softmax %x : tensor<2x3xf32>
  // CHECK: train.log_softmax %{{.*}} : tensor<2x3xf32>
  %1 = train.log_softmax %x : tensor<2x3xf32>
  // CHECK: train.softmax_grad %{{.*}}, %{{.*}} : tensor<2x3xf32>
  %2 = train.softmax_grad %0, %x : tensor<2x3xf32>
  // CHECK: train.log_softmax_grad %{{.*}}, %{{.*}} : tensor<2x3xf32>
  %3 = train.log_softmax_grad %1, %x : tensor<2x3xf32>
  return
}

// CHECK-LABEL: func.func @norms
func.func @norms(%x: tensor<2x3xbf16>, %g: tensor<3xbf16>) {
  // CHECK: train.layer_norm %{{.*}} gamma %{{.*}} : tensor<3xbf16> beta %{{.*}} : tensor<3xbf16> {epsilon = 1.000000e-05 : f64} : tensor<2x3xbf16> -> tensor<2x3xbf16>, tensor<2xf32>
  %y, %mean, %rstd = train.layer_norm %x gamma %g : tensor<3xbf16> beta %g : tensor<3xbf16> {epsilon = 1.0e-5 : f64} : tensor<2x3xbf16> -> tensor<2x3xbf16>, tensor<2xf32>
  // CHECK: train.layer_norm %{{.*}} {epsilon = 1.000000e-05 : f64} : tensor<2x3xbf16> -> tensor<2x3xbf16>, tensor<2xf32>
  %y1, %mean1, %rstd1 = train.layer_norm %x {epsilon = 1.0e-5 : f64} : tensor<2x3xbf16> -> tensor<2x3xbf16>, tensor<2xf32>
  // CHECK: train.layer_norm_grad %{{.*}} gamma %{{.*}} : tensor<3xbf16> mean %{{.*}} rstd %{{.*}} cotangent %{{.*}} : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16>
  %dx = train.layer_norm_grad %x gamma %g : tensor<3xbf16> mean %mean rstd %rstd cotangent %y : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16>
  // CHECK: train.layer_norm_grad %{{.*}} mean %{{.*}} rstd %{{.*}} cotangent %{{.*}} addend %{{.*}} : tensor<2x3xbf16> : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16>
  %dx2 = train.layer_norm_grad %x mean %mean rstd %rstd cotangent %y addend %y1 : tensor<2x3xbf16> : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16>
  // CHECK: train.layer_norm_parameter_grad %{{.*}} mean %{{.*}} rstd %{{.*}} cotangent %{{.*}} : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<3xf32>, tensor<3xf32>
  %dg, %db = train.layer_norm_parameter_grad %x mean %mean rstd %rstd cotangent %y : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<3xf32>, tensor<3xf32>
  // CHECK: train.rms_norm %{{.*}} gamma %{{.*}} : tensor<3xbf16> {epsilon = 9.9999999999999995E-7 : f64} : tensor<2x3xbf16> -> tensor<2x3xbf16>, tensor<2xf32>
  %z, %r = train.rms_norm %x gamma %g : tensor<3xbf16> {epsilon = 1.0e-6 : f64} : tensor<2x3xbf16> -> tensor<2x3xbf16>, tensor<2xf32>
  // CHECK: train.rms_norm_grad %{{.*}} gamma %{{.*}} : tensor<3xbf16> rstd %{{.*}} cotangent %{{.*}} : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<2x3xbf16>
  %dx1 = train.rms_norm_grad %x gamma %g : tensor<3xbf16> rstd %r cotangent %z : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<2x3xbf16>
  // CHECK: train.rms_norm_grad %{{.*}} gamma %{{.*}} : tensor<3xbf16> rstd %{{.*}} cotangent %{{.*}} addend %{{.*}} : tensor<2x3xbf16> : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<2x3xbf16>
  %dx3 = train.rms_norm_grad %x gamma %g : tensor<3xbf16> rstd %r cotangent %z addend %y : tensor<2x3xbf16> : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<2x3xbf16>
  // CHECK: train.rms_norm_parameter_grad %{{.*}} rstd %{{.*}} cotangent %{{.*}} : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<3xbf16>
  %dg1 = train.rms_norm_parameter_grad %x rstd %r cotangent %z : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<3xbf16>
  // CHECK: train.layer_norm_grad {{.*}} cotangent %{{.*}} : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> parameters tensor<3xf32>, tensor<3xbf16> sum tensor<3xf32>
  %all:4 = train.layer_norm_grad %x mean %mean rstd %rstd cotangent %y {resultSegmentSizes = array<i32: 1, 1, 1, 1>} : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> parameters tensor<3xf32>, tensor<3xbf16> sum tensor<3xf32>
  // CHECK: train.rms_norm_grad {{.*}} -> tensor<2x3xbf16> sum tensor<3xbf16>
  %two:2 = train.rms_norm_grad %x rstd %r cotangent %z {resultSegmentSizes = array<i32: 1, 0, 1>} : tensor<2x3xbf16>, tensor<2xf32>, tensor<2x3xbf16> -> tensor<2x3xbf16> sum tensor<3xbf16>
  return
}

// CHECK-LABEL: func.func @cross_entropy
func.func @cross_entropy(%x: tensor<2x3x5xbf16>, %y: tensor<2x3xi64>) {
  // CHECK: train.cross_entropy %{{.*}}, %{{.*}} : tensor<2x3x5xbf16>, tensor<2x3xi64> -> tensor<f32>, tensor<2x3xf32>
  %loss, %count, %lse = train.cross_entropy %x, %y : tensor<2x3x5xbf16>, tensor<2x3xi64> -> tensor<f32>, tensor<2x3xf32>
  // CHECK: train.cross_entropy_grad %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} {ignore_index = -1 : i64, label_smoothing = 1.000000e-01 : f64} : tensor<2x3x5xbf16>, tensor<2x3xi64>, tensor<2x3xf32>, tensor<f32> -> tensor<2x3x5xbf16>
  %dx = train.cross_entropy_grad %x, %y, %lse, %loss {ignore_index = -1 : i64, label_smoothing = 0.1 : f64} : tensor<2x3x5xbf16>, tensor<2x3xi64>, tensor<2x3xf32>, tensor<f32> -> tensor<2x3x5xbf16>
  // CHECK: train.cross_entropy_step %{{.*}}, %{{.*}}, %{{.*}} : tensor<2x3x5xbf16>, tensor<2x3xi64>, tensor<f32> -> tensor<f32>
  %d0, %loss0, %count0 = train.cross_entropy_step %x, %y, %loss : tensor<2x3x5xbf16>, tensor<2x3xi64>, tensor<f32> -> tensor<f32>
  // CHECK: train.cross_entropy_step %{{.*}}, %{{.*}}, %{{.*}} {ignore_index = -1 : i64, label_smoothing = 1.000000e-01 : f64} : tensor<2x3x5xbf16>, tensor<2x3xi64>, tensor<f32> -> tensor<f32>
  %d1, %loss1, %count1 = train.cross_entropy_step %x, %y, %loss {ignore_index = -1 : i64, label_smoothing = 0.1 : f64} : tensor<2x3x5xbf16>, tensor<2x3xi64>, tensor<f32> -> tensor<f32>
  return
}

// CHECK-LABEL: func.func @count_correct
func.func @count_correct(%x: tensor<2x3x5xbf16>, %y: tensor<2x3xi64>) {
  // CHECK: train.count_correct %{{.*}}, %{{.*}} {ignore_index = -1 : i64} : tensor<2x3x5xbf16>, tensor<2x3xi64> -> tensor<f32>
  %count = train.count_correct %x, %y {ignore_index = -1 : i64} : tensor<2x3x5xbf16>, tensor<2x3xi64> -> tensor<f32>
  return
}
