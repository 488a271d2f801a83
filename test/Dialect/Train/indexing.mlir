// RUN: zopt %s --verify-roundtrip | FileCheck %s

// CHECK-LABEL: func @scatter
func.func @scatter(%data: tensor<5x3xf32>, %i: tensor<4xi64>, %updates: tensor<4x3xf32>, %bits: tensor<6xi1>, %bit: tensor<4xi1>) {
  // CHECK: train.scatter none %{{.*}}, %{{.*}}, %{{.*}} : tensor<5x3xf32>, tensor<4xi64>, tensor<4x3xf32>
  %0 = train.scatter none %data, %i, %updates : tensor<5x3xf32>, tensor<4xi64>, tensor<4x3xf32>
  // CHECK: train.scatter max
  %1 = train.scatter max %data, %i, %updates : tensor<5x3xf32>, tensor<4xi64>, tensor<4x3xf32>
  // CHECK: train.scatter none %{{.*}} : tensor<6xi1>, tensor<4xi64>, tensor<4xi1>
  %2 = train.scatter none %bits, %i, %bit : tensor<6xi1>, tensor<4xi64>, tensor<4xi1>
  return
}

// CHECK-LABEL: func @top_k
func.func @top_k(%x: tensor<2x7xf32>) {
  // CHECK: train.top_k %{{.*}} : tensor<2x7xf32> -> tensor<2x3xf32>, tensor<2x3xi64>
  %values, %indices = train.top_k %x : tensor<2x7xf32> -> tensor<2x3xf32>, tensor<2x3xi64>
  // CHECK: train.top_k %{{.*}} {smallest} : tensor<2x7xf32> -> tensor<2x7xf32>, tensor<2x7xi64>
  %sorted, %order = train.top_k %x {smallest} : tensor<2x7xf32> -> tensor<2x7xf32>, tensor<2x7xi64>
  return
}
