// RUN: zopt %s --zopt-raise-silu | FileCheck %s

// Both orders, and the quotient.
// CHECK-LABEL: func.func @silu
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>)
// CHECK-NEXT: train.silu %[[X]]
// CHECK-NEXT: train.silu %[[X]]
// CHECK-NEXT: train.silu %[[X]]
// CHECK-NEXT: return
func.func @silu(%x: tensor<4x32xf32>) -> (tensor<4x32xf32>, tensor<4x32xf32>, tensor<4x32xf32>) {
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %s = train.sigmoid %x : tensor<4x32xf32>
  %0 = train.mul %x, %s : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %1 = train.mul %s, %x : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %n = train.neg %x : tensor<4x32xf32>
  %e = train.exp %n : tensor<4x32xf32>
  %d = train.add %e, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %2 = train.div %x, %d : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %0, %1, %2 : tensor<4x32xf32>, tensor<4x32xf32>, tensor<4x32xf32>
}

// A gate by another tensor, and the sigmoid form of GELU.
// CHECK-LABEL: func.func @no_silu
// CHECK-NOT: train.silu
// CHECK: return
func.func @no_silu(%x: tensor<4x32xf32>, %z: tensor<4x32xf32>) -> (tensor<4x32xf32>, tensor<4x32xf32>) {
  %c = train.constant dense<1.702> : tensor<f32> : tensor<f32>
  %s = train.sigmoid %z : tensor<4x32xf32>
  %0 = train.mul %x, %s : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %1 = train.mul %x, %c : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %2 = train.sigmoid %1 : tensor<4x32xf32>
  %3 = train.mul %x, %2 : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %0, %3 : tensor<4x32xf32>, tensor<4x32xf32>
}
