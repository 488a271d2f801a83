// RUN: zopt %s --verify-roundtrip | FileCheck %s

// CHECK-LABEL: func.func @unary
func.func @unary(%x: tensor<2x3xf32>, %i: tensor<4xi1>) {
  // CHECK: train.neg %{{.*}} : tensor<2x3xf32>
  %0 = train.neg %x : tensor<2x3xf32>
  // CHECK: train.abs %{{.*}} : tensor<2x3xf32>
  %1 = train.abs %x : tensor<2x3xf32>
  // CHECK: train.sign %{{.*}} : tensor<2x3xf32>
  %2 = train.sign %x : tensor<2x3xf32>
  // CHECK: train.exp %{{.*}} : tensor<2x3xf32>
  %3 = train.exp %x : tensor<2x3xf32>
  // CHECK: train.log %{{.*}} : tensor<2x3xf32>
  %4 = train.log %x : tensor<2x3xf32>
  // CHECK: train.sqrt %{{.*}} : tensor<2x3xf32>
  %5 = train.sqrt %x : tensor<2x3xf32>
  // CHECK: train.rsqrt %{{.*}} : tensor<2x3xf32>
  %6 = train.rsqrt %x : tensor<2x3xf32>
  // CHECK: train.reciprocal %{{.*}} : tensor<2x3xf32>
  %7 = train.reciprocal %x : tensor<2x3xf32>
  // CHECK: train.tanh %{{.*}} : tensor<2x3xf32>
  %8 = train.tanh %x : tensor<2x3xf32>
  // CHECK: train.sigmoid %{{.*}} : tensor<2x3xf32>
  %9 = train.sigmoid %x : tensor<2x3xf32>
  // CHECK: train.erf %{{.*}} : tensor<2x3xf32>
  %10 = train.erf %x : tensor<2x3xf32>
  // CHECK: train.sin %{{.*}} : tensor<2x3xf32>
  %11 = train.sin %x : tensor<2x3xf32>
  // CHECK: train.cos %{{.*}} : tensor<2x3xf32>
  %12 = train.cos %x : tensor<2x3xf32>
  // CHECK: train.relu %{{.*}} : tensor<2x3xf32>
  %13 = train.relu %x : tensor<2x3xf32>
  // CHECK: train.silu %{{.*}} : tensor<2x3xf32>
  %14 = train.silu %x : tensor<2x3xf32>
  // CHECK: train.floor %{{.*}} : tensor<2x3xf32>
  %15 = train.floor %x : tensor<2x3xf32>
  // CHECK: train.ceil %{{.*}} : tensor<2x3xf32>
  %16 = train.ceil %x : tensor<2x3xf32>
  // CHECK: train.softplus %{{.*}} : tensor<2x3xf32>
  %17 = train.softplus %x : tensor<2x3xf32>
  // CHECK: train.not %{{.*}} : tensor<4xi1>
  %18 = train.not %i : tensor<4xi1>
  // CHECK: train.gelu %{{.*}} {approximate = 1 : i32} : tensor<2x3xf32>
  %gelu = train.gelu %x {approximate = 1 : i32} : tensor<2x3xf32>
  // CHECK: train.is_nan %{{.*}} : tensor<2x3xf32> -> tensor<2x3xi1>
  %nan = train.is_nan %x : tensor<2x3xf32> -> tensor<2x3xi1>
  // CHECK: train.cast %{{.*}} : tensor<2x3xf32> -> tensor<2x3xbf16>
  %cast = train.cast %x : tensor<2x3xf32> -> tensor<2x3xbf16>
  return
}

// CHECK-LABEL: func.func @binary
func.func @binary(%a: tensor<2x1x3xf32>, %b: tensor<4x1xf32>, %i: tensor<4xi64>, %s: tensor<i64>) {
  // CHECK: train.add %{{.*}}, %{{.*}} : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  %0 = train.add %a, %b : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  // CHECK: train.sub %{{.*}}, %{{.*}} : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  %1 = train.sub %a, %b : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  // CHECK: train.mul %{{.*}}, %{{.*}} : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  %2 = train.mul %a, %b : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  // CHECK: train.div %{{.*}}, %{{.*}} : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  %3 = train.div %a, %b : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  // CHECK: train.pow %{{.*}}, %{{.*}} : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  %4 = train.pow %a, %b : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  // CHECK: train.max %{{.*}}, %{{.*}} : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  %5 = train.max %a, %b : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  // CHECK: train.min %{{.*}}, %{{.*}} : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  %6 = train.min %a, %b : tensor<2x1x3xf32>, tensor<4x1xf32> -> tensor<2x4x3xf32>
  // CHECK: train.and %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi64>
  %l0 = train.and %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi64>
  // CHECK: train.or %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi64>
  %l1 = train.or %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi64>
  // CHECK: train.compare eq %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  %c0 = train.compare eq %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  // CHECK: train.compare ne %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  %c1 = train.compare ne %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  // CHECK: train.compare lt %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  %c2 = train.compare lt %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  // CHECK: train.compare le %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  %c3 = train.compare le %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  // CHECK: train.compare gt %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  %c4 = train.compare gt %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  // CHECK: train.compare ge %{{.*}}, %{{.*}} : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  %c5 = train.compare ge %i, %s : tensor<4xi64>, tensor<i64> -> tensor<4xi1>
  // CHECK: train.select %{{.*}}, %{{.*}}, %{{.*}} : tensor<4xi1>, tensor<i64>, tensor<4xi64> -> tensor<4xi64>
  %select = train.select %c0, %s, %i : tensor<4xi1>, tensor<i64>, tensor<4xi64> -> tensor<4xi64>
  return
}

// CHECK-LABEL: func.func @gradients
func.func @gradients(%x: tensor<2x3xbf16>, %dy: tensor<2x3xbf16>) {
  // CHECK: train.gelu_grad %{{.*}}, %{{.*}} {approximate = 0 : i32} : tensor<2x3xbf16>
  %gelu = train.gelu_grad %x, %dy {approximate = 0 : i32} : tensor<2x3xbf16>
  // CHECK: train.silu_grad %{{.*}}, %{{.*}} : tensor<2x3xbf16>
  %0 = train.silu_grad %x, %dy : tensor<2x3xbf16>
  // CHECK: train.relu_grad %{{.*}}, %{{.*}} : tensor<2x3xbf16>
  %1 = train.relu_grad %x, %dy : tensor<2x3xbf16>
  // CHECK: train.tanh_grad %{{.*}}, %{{.*}} : tensor<2x3xbf16>
  %2 = train.tanh_grad %x, %dy : tensor<2x3xbf16>
  // CHECK: train.sigmoid_grad %{{.*}}, %{{.*}} : tensor<2x3xbf16>
  %3 = train.sigmoid_grad %x, %dy : tensor<2x3xbf16>
  // CHECK: train.erf_grad %{{.*}}, %{{.*}} : tensor<2x3xbf16>
  %4 = train.erf_grad %x, %dy : tensor<2x3xbf16>
  return
}

// CHECK-LABEL: func.func @fused
func.func @fused(%x: tensor<2x3xf32>, %b: tensor<3xf32>) -> tensor<2x3xf32> {
  // CHECK: %[[Y:.*]]:2 = train.fused(%{{.*}}, %{{.*}}) {
  // CHECK: ^bb0(%{{.*}}: tensor<2x3xf32>, %{{.*}}: tensor<3xf32>):
  // CHECK: train.yield %{{.*}}, %{{.*}} : tensor<2x3xf32>, tensor<2x3xf32>
  // CHECK: } : (tensor<2x3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)
  %y:2 = train.fused (%x, %b) {
  ^bb0(%p: tensor<2x3xf32>, %q: tensor<3xf32>):
    %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    %0 = train.add %p, %q : tensor<2x3xf32>, tensor<3xf32> -> tensor<2x3xf32>
    %1 = train.mul %0, %one : tensor<2x3xf32>, tensor<f32> -> tensor<2x3xf32>
    train.yield %0, %1 : tensor<2x3xf32>, tensor<2x3xf32>
  } : (tensor<2x3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)
  return %y#1 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @bits
func.func @bits(%x: tensor<4xf32>) -> tensor<4xf64> {
  // CHECK: train.bitcast %{{.*}} as f16 : tensor<4xf32> -> tensor<4xi16>
  %0 = train.bitcast %x as f16 : tensor<4xf32> -> tensor<4xi16>
  // CHECK: train.bitcast %{{.*}} as bf16 : tensor<4xi16> -> tensor<4xf64>
  %1 = train.bitcast %0 as bf16 : tensor<4xi16> -> tensor<4xf64>
  return %1 : tensor<4xf64>
}
