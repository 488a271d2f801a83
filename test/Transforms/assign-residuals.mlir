// RUN: zopt %s --zopt-assign-residuals | FileCheck %s

// Only what crosses train.backward is a residual; constants and inputs cost nothing to have again. An old decision is forgotten.
// CHECK-LABEL: func.func @micro_step
func.func @micro_step(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  // CHECK: train.constant
  // CHECK-NOT: zero.residual
  // CHECK-SAME: tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  // CHECK: train.exp %{{.*}} {zero.residual = "keep"}
  %kept = train.exp %x : tensor<4xf32>
  // CHECK: train.neg %{{[0-9]+}} : tensor<4xf32>
  %forward = train.neg %kept {zero.residual = "keep"} : tensor<4xf32>
  %loss = train.reduce_sum %forward [0] : tensor<4xf32> -> tensor<f32>
  // CHECK: train.backward
  train.backward %loss seed %one : tensor<f32>
  // CHECK: train.mul
  // CHECK-NOT: zero.residual
  %d = train.mul %kept, %x : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
  %e = train.mul %d, %one : tensor<4xf32>, tensor<f32> -> tensor<4xf32>
  return %d, %e : tensor<4xf32>, tensor<4xf32>
}
