// RUN: zopt %s --zopt-raise-rms-norm | FileCheck %s

// transformers' LlamaRMSNorm, torch.export.
// CHECK-LABEL: func.func @llama
// CHECK-SAME: (%[[X:.*]]: tensor<2x8x64xf32>, %[[G:.*]]: tensor<64xf32>)
// CHECK-NEXT: %[[Y:.*]], %{{.*}} = train.rms_norm %[[X]] gamma %[[G]] : tensor<64xf32> {epsilon = 9.9999999747524271E-7 : f64} : tensor<2x8x64xf32> -> tensor<2x8x64xf32>, tensor<2x8xf32>
// CHECK-NEXT: return %[[Y]]
func.func @llama(%x: tensor<2x8x64xf32>, %gamma: tensor<64xf32>) -> tensor<2x8x64xf32> {
  %two = train.constant dense<2.0> : tensor<f32> : tensor<f32>
  %eps = train.constant dense<1.0e-6> : tensor<f32> : tensor<f32>
  %square = train.pow %x, %two : tensor<2x8x64xf32>, tensor<f32> -> tensor<2x8x64xf32>
  %mean = train.reduce_mean %square [2] {keepdims} : tensor<2x8x64xf32> -> tensor<2x8x1xf32>
  %shifted = train.add %mean, %eps : tensor<2x8x1xf32>, tensor<f32> -> tensor<2x8x1xf32>
  %root = train.sqrt %shifted : tensor<2x8x1xf32>
  %rstd = train.reciprocal %root : tensor<2x8x1xf32>
  %n = train.mul %x, %rstd : tensor<2x8x64xf32>, tensor<2x8x1xf32> -> tensor<2x8x64xf32>
  %y = train.mul %gamma, %n : tensor<64xf32>, tensor<2x8x64xf32> -> tensor<2x8x64xf32>
  return %y : tensor<2x8x64xf32>
}

// TorchScript: a quotient by the root, and one divided by it.
// CHECK-LABEL: func.func @quotients
// CHECK-COUNT-2: train.rms_norm %{{.*}} gamma
// CHECK-NEXT: return
func.func @quotients(%x: tensor<4x32xf32>, %gamma: tensor<32xf32>) -> (tensor<4x32xf32>, tensor<4x32xf32>) {
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %eps = train.constant dense<1.0e-6> : tensor<f32> : tensor<f32>
  %square = train.mul %x, %x : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %mean = train.reduce_mean %square [1] {keepdims} : tensor<4x32xf32> -> tensor<4x1xf32>
  %shifted = train.add %mean, %eps : tensor<4x1xf32>, tensor<f32> -> tensor<4x1xf32>
  %root = train.sqrt %shifted : tensor<4x1xf32>
  %n0 = train.div %x, %root : tensor<4x32xf32>, tensor<4x1xf32> -> tensor<4x32xf32>
  %y0 = train.mul %n0, %gamma : tensor<4x32xf32>, tensor<32xf32> -> tensor<4x32xf32>
  %rstd = train.div %one, %root : tensor<f32>, tensor<4x1xf32> -> tensor<4x1xf32>
  %n1 = train.mul %rstd, %x : tensor<4x1xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %y1 = train.mul %n1, %gamma : tensor<4x32xf32>, tensor<32xf32> -> tensor<4x32xf32>
  return %y0, %y1 : tensor<4x32xf32>, tensor<4x32xf32>
}

// A bf16 model computes the norm in fp32 and casts back before gamma.
// CHECK-LABEL: func.func @casts
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xbf16>, %[[G:.*]]: tensor<32xbf16>)
// CHECK-NEXT: train.rms_norm %[[X]] gamma %[[G]] : tensor<32xbf16> {{.*}} : tensor<4x32xbf16> -> tensor<4x32xbf16>, tensor<4xf32>
// CHECK-NEXT: return
func.func @casts(%x: tensor<4x32xbf16>, %gamma: tensor<32xbf16>) -> tensor<4x32xbf16> {
  %eps = train.constant dense<1.0e-6> : tensor<f32> : tensor<f32>
  %wide = train.cast %x : tensor<4x32xbf16> -> tensor<4x32xf32>
  %square = train.mul %wide, %wide : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %mean = train.reduce_mean %square [1] {keepdims} : tensor<4x32xf32> -> tensor<4x1xf32>
  %shifted = train.add %mean, %eps : tensor<4x1xf32>, tensor<f32> -> tensor<4x1xf32>
  %rstd = train.rsqrt %shifted : tensor<4x1xf32>
  %n = train.mul %wide, %rstd : tensor<4x32xf32>, tensor<4x1xf32> -> tensor<4x32xf32>
  %narrow = train.cast %n : tensor<4x32xf32> -> tensor<4x32xbf16>
  %y = train.mul %gamma, %narrow : tensor<32xbf16>, tensor<4x32xbf16> -> tensor<4x32xbf16>
  return %y : tensor<4x32xbf16>
}

// The root of another tensor's mean square; a mean over columns; the third power.
// CHECK-LABEL: func.func @no_rms_norm
// CHECK-NOT: train.rms_norm
// CHECK: return
func.func @no_rms_norm(%x: tensor<32x32xf32>, %z: tensor<32x32xf32>) -> (tensor<32x32xf32>, tensor<32x32xf32>, tensor<32x32xf32>) {
  %three = train.constant dense<3.0> : tensor<f32> : tensor<f32>
  %s0 = train.mul %z, %z : tensor<32x32xf32>, tensor<32x32xf32> -> tensor<32x32xf32>
  %m0 = train.reduce_mean %s0 [1] {keepdims} : tensor<32x32xf32> -> tensor<32x1xf32>
  %r0 = train.rsqrt %m0 : tensor<32x1xf32>
  %y0 = train.mul %x, %r0 : tensor<32x32xf32>, tensor<32x1xf32> -> tensor<32x32xf32>
  %m1 = train.reduce_mean %s0 [0] {keepdims} : tensor<32x32xf32> -> tensor<1x32xf32>
  %r1 = train.rsqrt %m1 : tensor<1x32xf32>
  %y1 = train.mul %z, %r1 : tensor<32x32xf32>, tensor<1x32xf32> -> tensor<32x32xf32>
  %s2 = train.pow %z, %three : tensor<32x32xf32>, tensor<f32> -> tensor<32x32xf32>
  %m2 = train.reduce_mean %s2 [1] {keepdims} : tensor<32x32xf32> -> tensor<32x1xf32>
  %r2 = train.rsqrt %m2 : tensor<32x1xf32>
  %y2 = train.mul %z, %r2 : tensor<32x32xf32>, tensor<32x1xf32> -> tensor<32x32xf32>
  return %y0, %y1, %y2 : tensor<32x32xf32>, tensor<32x32xf32>, tensor<32x32xf32>
}
