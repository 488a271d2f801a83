// RUN: zopt %s --verify-roundtrip | FileCheck %s

// CHECK-LABEL: func.func @movement
func.func @movement(%x: tensor<2x3x4xf32>, %y: tensor<2x1x4xf32>, %i: tensor<5x2xi64>) {
  // CHECK: train.reshape %{{.*}} : tensor<2x3x4xf32> -> tensor<6x4xf32>
  %0 = train.reshape %x : tensor<2x3x4xf32> -> tensor<6x4xf32>
  // CHECK: train.transpose %{{.*}} [2, 0, 1] : tensor<2x3x4xf32> -> tensor<4x2x3xf32>
  %1 = train.transpose %x [2, 0, 1] : tensor<2x3x4xf32> -> tensor<4x2x3xf32>
  // CHECK: train.slice %{{.*}} [1, 2, 0] [1, -1, 2] : tensor<2x3x4xf32> -> tensor<1x3x2xf32>
  %2 = train.slice %x [1, 2, 0] [1, -1, 2] : tensor<2x3x4xf32> -> tensor<1x3x2xf32>
  // CHECK: train.slice_grad %{{.*}} [1, 2, 0] [1, -1, 2] : tensor<1x3x2xf32> -> tensor<2x3x4xf32>
  %3 = train.slice_grad %2 [1, 2, 0] [1, -1, 2] : tensor<1x3x2xf32> -> tensor<2x3x4xf32>
  // CHECK: train.concat 1, %{{.*}}, %{{.*}} : tensor<2x3x4xf32>, tensor<2x1x4xf32> -> tensor<2x4x4xf32>
  %4 = train.concat 1, %x, %y : tensor<2x3x4xf32>, tensor<2x1x4xf32> -> tensor<2x4x4xf32>
  // CHECK: train.broadcast %{{.*}} : tensor<2x1x4xf32> -> tensor<5x2x3x4xf32>
  %5 = train.broadcast %y : tensor<2x1x4xf32> -> tensor<5x2x3x4xf32>
  // CHECK: train.gather %{{.*}}, %{{.*}} 1 : tensor<2x3x4xf32>, tensor<5x2xi64> -> tensor<2x5x2x4xf32>
  %6 = train.gather %x, %i 1 : tensor<2x3x4xf32>, tensor<5x2xi64> -> tensor<2x5x2x4xf32>
  // CHECK: train.gather_grad %{{.*}}, %{{.*}} 1 : tensor<2x5x2x4xf32>, tensor<5x2xi64> -> tensor<2x3x4xf32>
  %7 = train.gather_grad %6, %i 1 : tensor<2x5x2x4xf32>, tensor<5x2xi64> -> tensor<2x3x4xf32>
  return
}
