// RUN: zopt %s --mlir-print-op-generic | zopt | FileCheck %s

// CHECK-LABEL: func.func @dropout
func.func @dropout(%x: tensor<4x6xf32>, %key: tensor<i64>, %counter: tensor<i64>) -> tensor<4x6xf32> {
  // CHECK: train.dropout %{{.*}} {id = 0 : i64, ratio = 1.000000e-01 : f64} : tensor<4x6xf32>
  %a = train.dropout %x {id = 0 : i64, ratio = 0.1 : f64} : tensor<4x6xf32>
  // CHECK: train.dropout %{{.*}} random(%{{.*}}, %{{.*}} : tensor<i64>, tensor<i64>) {id = 1 : i64, layout = array<i64: 1, 4, 6>, ratio = 1.000000e-01 : f64} : tensor<4x6xf32>
  %b = train.dropout %a random(%key, %counter : tensor<i64>, tensor<i64>) {id = 1 : i64, ratio = 0.1 : f64, layout = array<i64: 1, 4, 6>} : tensor<4x6xf32>
  // CHECK: train.dropout_mask %{{.*}} : tensor<4x6xf32> -> tensor<4x6xi1>
  %m = train.dropout_mask %x {id = 0 : i64, ratio = 0.1 : f64} : tensor<4x6xf32> -> tensor<4x6xi1>
  // CHECK: train.uniform %{{.*}} random(%{{.*}}, %{{.*}} : tensor<i64>, tensor<i64>) {id = 2 : i64, layout = array<i64: 1, 4, 6>} : tensor<4x6xf32> -> tensor<4x6xf64>
  %u = train.uniform %x random(%key, %counter : tensor<i64>, tensor<i64>) {id = 2 : i64, layout = array<i64: 1, 4, 6>} : tensor<4x6xf32> -> tensor<4x6xf64>
  // CHECK: train.normal %{{.*}} {id = 3 : i64} : tensor<4x6xf32> -> tensor<4x6xf32>
  %n = train.normal %x {id = 3 : i64} : tensor<4x6xf32> -> tensor<4x6xf32>
  return %b : tensor<4x6xf32>
}

// CHECK-LABEL: func.func @batch_norm
func.func @batch_norm(%x: tensor<2x3x4xf32>, %g: tensor<3x1xf32>, %b: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  // CHECK: train.batch_statistics %{{.*}} : tensor<2x3x4xf32> -> tensor<3xf32>
  %mean, %variance = train.batch_statistics %x : tensor<2x3x4xf32> -> tensor<3xf32>
  // CHECK: train.mean_over_ranks
  %all = train.mean_over_ranks %mean : tensor<3xf32>
  %m = train.reshape %all : tensor<3xf32> -> tensor<3x1xf32>
  %v = train.reshape %variance : tensor<3xf32> -> tensor<3x1xf32>
  // CHECK: train.batch_norm %{{.*}} mean %{{.*}} variance %{{.*}} gamma %{{.*}} beta %{{.*}} {epsilon = 1.000000e-05 : f64, training} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3x1xf32>
  %y = train.batch_norm %x mean %m variance %v gamma %g beta %b {epsilon = 1.0e-5 : f64, training} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3x1xf32>
  // CHECK: train.batch_norm_sums
  %s, %p = train.batch_norm_sums %x mean %m variance %v cotangent %y {epsilon = 1.0e-5 : f64} : tensor<2x3x4xf32>, tensor<3x1xf32> -> tensor<3xf32>
  %s1 = train.reshape %s : tensor<3xf32> -> tensor<3x1xf32>
  %p1 = train.reshape %p : tensor<3xf32> -> tensor<3x1xf32>
  // CHECK: train.batch_norm_grad %{{.*}} mean %{{.*}} variance %{{.*}} gamma %{{.*}} cotangent %{{.*}} sums(%{{.*}}, %{{.*}} : tensor<3x1xf32>, tensor<3x1xf32>) {count = 8.000000e+00 : f64, epsilon = 1.000000e-05 : f64}
  %dx = train.batch_norm_grad %x mean %m variance %v gamma %g cotangent %y sums(%s1, %p1 : tensor<3x1xf32>, tensor<3x1xf32>) {epsilon = 1.0e-5 : f64, count = 8.0 : f64} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3x1xf32>
  return %dx : tensor<2x3x4xf32>
}
