// RUN: zopt %s --pass-pipeline="builtin.module(func.func(zopt-fuse-norm-parameter-gradients))" --split-input-file | FileCheck %s

// The gradients of gamma and beta, and of the bias that was added to x, become results; the op stands where the input's gradient stood.
// CHECK-LABEL: func.func @layer_norm
// CHECK-NEXT: %[[P:.*]] = train.neg
// CHECK-NEXT: %[[D:.*]], %[[G:.*]], %[[B:.*]], %[[S:.*]] = train.layer_norm_grad %arg0 gamma %arg1 : tensor<8xbf16> mean %arg2 rstd %arg2 cotangent %arg3 addend %[[P]] : tensor<2x4x8xbf16> {{.*}} parameters tensor<8xf32>, tensor<8xbf16> sum tensor<8xbf16>
// CHECK-NEXT: return %[[D]], %[[G]], %[[B]], %[[S]]
func.func @layer_norm(%x: tensor<2x4x8xbf16>, %g: tensor<8xbf16>, %s: tensor<2x4xf32>, %dy: tensor<2x4x8xbf16>) -> (tensor<2x4x8xbf16>, tensor<8xf32>, tensor<8xbf16>, tensor<8xbf16>) {
  %dg, %db = train.layer_norm_parameter_grad %x mean %s rstd %s cotangent %dy : tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4x8xbf16> -> tensor<8xf32>, tensor<8xbf16>
  %p = train.neg %x : tensor<2x4x8xbf16>
  %d = train.layer_norm_grad %x gamma %g : tensor<8xbf16> mean %s rstd %s cotangent %dy addend %p : tensor<2x4x8xbf16> : tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4x8xbf16>
  %bias = train.reduce_sum %d [0, 1] : tensor<2x4x8xbf16> -> tensor<8xbf16>
  return %d, %dg, %db, %bias : tensor<2x4x8xbf16>, tensor<8xf32>, tensor<8xbf16>, tensor<8xbf16>
}

// -----

// Where the gradient of gamma is read before, the input's gradient moves there.
// CHECK-LABEL: func.func @earlier
// CHECK-NEXT: %[[D:.*]], %[[G:.*]] = train.rms_norm_grad %arg0 rstd %arg1 cotangent %arg2 {{.*}} -> tensor<4x8xbf16> parameters tensor<8xbf16>
// CHECK-NEXT: %[[N:.*]] = train.neg %[[G]]
// CHECK-NEXT: return %[[D]], %[[N]]
func.func @earlier(%x: tensor<4x8xbf16>, %s: tensor<4xf32>, %dy: tensor<4x8xbf16>) -> (tensor<4x8xbf16>, tensor<8xbf16>) {
  %dg = train.rms_norm_parameter_grad %x rstd %s cotangent %dy : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16> -> tensor<8xbf16>
  %n = train.neg %dg : tensor<8xbf16>
  %d = train.rms_norm_grad %x rstd %s cotangent %dy : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  return %d, %n : tensor<4x8xbf16>, tensor<8xbf16>
}

// -----

// Nothing between: the addend comes after a reader of gamma's gradient. Another cotangent is another norm; a sum over fewer axes, or one that keeps them, is no bias's gradient.
// CHECK-LABEL: func.func @apart
// CHECK: train.rms_norm_parameter_grad
// CHECK: train.rms_norm_grad
// CHECK-NOT: parameters
// CHECK: train.rms_norm_parameter_grad
// CHECK: train.reduce_sum
// CHECK: train.reduce_sum
// CHECK: return
func.func @apart(%x: tensor<2x4x8xbf16>, %s: tensor<2x4xf32>, %dy: tensor<2x4x8xbf16>) -> (tensor<2x4x8xbf16>, tensor<8xbf16>, tensor<4x8xbf16>, tensor<1x1x8xbf16>) {
  %dg = train.rms_norm_parameter_grad %x rstd %s cotangent %dy : tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4x8xbf16> -> tensor<8xbf16>
  %p = train.mul %x, %dg : tensor<2x4x8xbf16>, tensor<8xbf16> -> tensor<2x4x8xbf16>
  %d = train.rms_norm_grad %x rstd %s cotangent %dy addend %p : tensor<2x4x8xbf16> : tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>
  %other = train.rms_norm_parameter_grad %x rstd %s cotangent %d : tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4x8xbf16> -> tensor<8xbf16>
  %a = train.reduce_sum %d [0] : tensor<2x4x8xbf16> -> tensor<4x8xbf16>
  %b = train.reduce_sum %d [0, 1] {keepdims} : tensor<2x4x8xbf16> -> tensor<1x1x8xbf16>
  return %d, %other, %a, %b : tensor<2x4x8xbf16>, tensor<8xbf16>, tensor<4x8xbf16>, tensor<1x1x8xbf16>
}
