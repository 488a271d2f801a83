// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-widen-products))' | FileCheck %s

// A product of fp16 is one of fp32 between casts; where its result was fp32 already, it stays that.
// CHECK-LABEL: @half
// CHECK-SAME: (%[[A:.*]]: tensor<2x3xf16>, %[[B:.*]]: tensor<4x3xf16>, %[[C:.*]]: tensor<4xf16>)
func.func @half(%a: tensor<2x3xf16>, %b: tensor<4x3xf16>, %c: tensor<4xf16>) -> (tensor<2x4xf16>, tensor<2x4xf32>) {
  // CHECK-DAG: %[[WA:.*]] = train.cast %[[A]] : tensor<2x3xf16> -> tensor<2x3xf32>
  // CHECK-DAG: %[[WB:.*]] = train.cast %[[B]] : tensor<4x3xf16> -> tensor<4x3xf32>
  // CHECK-DAG: %[[WC:.*]] = train.cast %[[C]] : tensor<4xf16> -> tensor<4xf32>
  // CHECK: %[[P:.*]] = train.matmul %[[WA]], %[[WB]] bias %[[WC]] : tensor<4xf32> {transpose_rhs} : tensor<2x3xf32>, tensor<4x3xf32> -> tensor<2x4xf32>
  // CHECK: %[[R:.*]] = train.cast %[[P]] : tensor<2x4xf32> -> tensor<2x4xf16>
  %0 = train.matmul %a, %b bias %c : tensor<4xf16> {transpose_rhs} : tensor<2x3xf16>, tensor<4x3xf16> -> tensor<2x4xf16>
  // CHECK: %[[S:.*]] = train.matmul %{{.*}}, %{{.*}} {scale = 5.000000e-01 : f64, transpose_rhs} : tensor<2x3xf32>, tensor<4x3xf32> -> tensor<2x4xf32>
  %1 = train.matmul %a, %b {scale = 5.000000e-01 : f64, transpose_rhs} : tensor<2x3xf16>, tensor<4x3xf16> -> tensor<2x4xf32>
  // CHECK: return %[[R]], %[[S]]
  return %0, %1 : tensor<2x4xf16>, tensor<2x4xf32>
}

// No other type is touched.
// CHECK-LABEL: @others
// CHECK-NOT: train.cast
// CHECK: return
func.func @others(%a: tensor<2x3xbf16>, %b: tensor<3x4xbf16>, %c: tensor<2x3xf32>, %d: tensor<3x4xf32>) -> (tensor<2x4xbf16>, tensor<2x4xf32>) {
  %0 = train.matmul %a, %b : tensor<2x3xbf16>, tensor<3x4xbf16> -> tensor<2x4xbf16>
  %1 = train.matmul %c, %d : tensor<2x3xf32>, tensor<3x4xf32> -> tensor<2x4xf32>
  return %0, %1 : tensor<2x4xbf16>, tensor<2x4xf32>
}
