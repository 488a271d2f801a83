// RUN: zopt %s --pass-pipeline="builtin.module(func.func(zopt-recompute-elementwise))" --split-input-file | FileCheck %s --implicit-check-not=error
// RUN: zopt %s --pass-pipeline="builtin.module(func.func(zopt-recompute-elementwise,zopt-fuse-elementwise))" --split-input-file | FileCheck %s --check-prefix=FUSED

// Backward keeps %gate for silu_grad anyway: silu(gate) is computed again, and the gradients of both factors are one kernel.
// CHECK-LABEL: func.func @gated
// CHECK: %[[GATE:.*]] = train.matmul {{.*}}{zero.residual = "keep"}
// CHECK: %[[SILU:.*]] = train.silu %[[GATE]] : tensor
// CHECK: train.mul %[[SILU]]
// CHECK: train.backward
// CHECK: %[[AGAIN:.*]] = train.silu %[[GATE]] : tensor
// CHECK-NEXT: train.mul %{{.*}}, %[[AGAIN]]
// FUSED-LABEL: func.func @gated
// FUSED: %[[GATE:.*]] = train.matmul
// FUSED: %[[UP:.*]] = train.matmul
// FUSED: %{{[0-9a-z]*}} = train.fused(%[[GATE]], %[[UP]])
// FUSED: train.backward
// FUSED: %[[DP:.*]] = train.matmul {{.*}}transpose_rhs
// FUSED-NEXT: %{{.*}}:2 = train.fused(%[[GATE]], %[[DP]], %[[UP]])
// FUSED-NOT: train.fused
// FUSED-LABEL: func.func @kept
func.func @gated(%x: tensor<4x8xbf16>, %wg: tensor<8x8xbf16>, %wu: tensor<8x8xbf16>, %wd: tensor<8x8xbf16>, %dy: tensor<4x8xbf16>, %loss: tensor<f32>, %seed: tensor<f32>) -> (tensor<4x8xbf16>, tensor<8x8xbf16>, tensor<8x8xbf16>, tensor<8x8xbf16>) {
  %gate = train.matmul %x, %wg {zero.residual = "keep"} : tensor<4x8xbf16>, tensor<8x8xbf16> -> tensor<4x8xbf16>
  %up = train.matmul %x, %wu {zero.residual = "keep"} : tensor<4x8xbf16>, tensor<8x8xbf16> -> tensor<4x8xbf16>
  %silu = train.silu %gate {zero.residual = "keep"} : tensor<4x8xbf16>
  %p = train.mul %silu, %up {zero.residual = "keep"} : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %y = train.matmul %p, %wd : tensor<4x8xbf16>, tensor<8x8xbf16> -> tensor<4x8xbf16>
  train.backward %loss seed %seed : tensor<f32>
  %dwd = train.matmul %p, %dy {transpose_lhs} : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<8x8xbf16>
  %dp = train.matmul %dy, %wd {transpose_rhs} : tensor<4x8xbf16>, tensor<8x8xbf16> -> tensor<4x8xbf16>
  %dup = train.mul %dp, %silu : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %dwu = train.matmul %x, %dup {transpose_lhs} : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<8x8xbf16>
  %dsilu = train.mul %dp, %up : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %dgate = train.silu_grad %gate, %dsilu : tensor<4x8xbf16>
  %dwg = train.matmul %x, %dgate {transpose_lhs} : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<8x8xbf16>
  return %y, %dwd, %dwu, %dwg : tensor<4x8xbf16>, tensor<8x8xbf16>, tensor<8x8xbf16>, tensor<8x8xbf16>
}

// -----

// Backward has no %x: %a stays a residual. What a product reads stays one too.
// CHECK-LABEL: func.func @kept
// CHECK: train.exp {{.*}}{zero.residual = "keep"}
// CHECK: train.neg {{.*}}{zero.residual = "keep"}
// CHECK: train.backward
// CHECK-NOT: train.exp
// CHECK-NOT: train.neg
func.func @kept(%z: tensor<8x8xf32>, %loss: tensor<f32>, %seed: tensor<f32>) -> (tensor<8x8xf32>, tensor<8x8xf32>) {
  %x = train.softmax %z : tensor<8x8xf32>
  %a = train.exp %x {zero.residual = "keep"} : tensor<8x8xf32>
  %b = train.neg %z {zero.residual = "keep"} : tensor<8x8xf32>
  train.backward %loss seed %seed : tensor<f32>
  %c = train.mul %a, %z : tensor<8x8xf32>, tensor<8x8xf32> -> tensor<8x8xf32>
  %d = train.matmul %b, %z : tensor<8x8xf32>, tensor<8x8xf32> -> tensor<8x8xf32>
  return %c, %d : tensor<8x8xf32>, tensor<8x8xf32>
}

// -----

// Two values to load instead of one would be more bytes, unless the reader loads one of them anyway.
// CHECK-LABEL: func.func @bytes
// CHECK: train.sub {{.*}}{zero.residual = "keep"}
// CHECK: train.add %{{[a-z0-9]*}}, %{{[a-z0-9]*}} : tensor
// CHECK: train.backward
// CHECK-NOT: train.sub
// CHECK: train.add
// CHECK-NEXT: train.mul
// CHECK-NOT: train.sub
func.func @bytes(%x: tensor<8xf32>, %y: tensor<8xf32>, %z: tensor<8xf32>, %loss: tensor<f32>, %seed: tensor<f32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %a = train.sub %x, %y {zero.residual = "keep"} : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  %b = train.add %x, %y {zero.residual = "keep"} : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  train.backward %loss seed %seed : tensor<f32>
  %c = train.exp %a : tensor<8xf32>
  %d = train.mul %b, %x : tensor<8xf32>, tensor<8xf32> -> tensor<8xf32>
  return %c, %d : tensor<8xf32>, tensor<8xf32>
}
