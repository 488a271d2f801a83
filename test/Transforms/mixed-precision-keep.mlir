// RUN: zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=bf16 keep-fp32="last|exp"})' | FileCheck %s
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=bf16 keep-fp32="las"})' 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 keep-fp32="["})' 2>&1 | FileCheck %s --check-prefix=INVALID
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{keep-fp32="last"})' 2>&1 | FileCheck %s --check-prefix=FP32

// NONE: error: keep-fp32 'las' matches no node and no op of the graph
// INVALID: error: keep-fp32 '[' is no regular expression:
// FP32: error: keep-fp32 is of bf16 and f16, but the compute type is 'f32'

// By the name of its node, and by that of an op. What moves a parameter to a kept op alone is kept with it, so that the master is read; a parameter that others read too is rounded for these.
// CHECK: %[[X:.*]] = train.cast %{{.*}} : tensor<2x3xf32> -> tensor<2x3xbf16>
// CHECK: %[[W:.*]] = train.read_state @w : tensor<3x3xf32>
// CHECK: %[[V:.*]] = train.read_state @v : tensor<3x3xf32>
// CHECK: %[[V16:.*]] = train.cast %[[V]] : tensor<3x3xf32> -> tensor<3x3xbf16>
// CHECK: %[[U:.*]] = train.read_state @u : tensor<3xbf16>
// CHECK: %[[A:.*]] = train.matmul %[[X]], %[[V16]] : tensor<2x3xbf16>, tensor<3x3xbf16> -> tensor<2x3xbf16>
// CHECK: %[[A32:.*]] = train.cast %[[A]] : tensor<2x3xbf16> -> tensor<2x3xf32>
// CHECK: %[[WT:.*]] = train.transpose %[[W]] [1, 0] : tensor<3x3xf32> -> tensor<3x3xf32>
// CHECK: %[[B:.*]] = train.matmul %[[A32]], %[[WT]] : tensor<2x3xf32>, tensor<3x3xf32> -> tensor<2x3xf32>
// CHECK: %[[C:.*]] = train.matmul %[[B]], %[[V]] : tensor<2x3xf32>, tensor<3x3xf32> -> tensor<2x3xf32>
// CHECK: %[[C16:.*]] = train.cast %[[C]] : tensor<2x3xf32> -> tensor<2x3xbf16>
// CHECK: %[[D:.*]] = train.mul %[[C16]], %[[U]] : tensor<2x3xbf16>, tensor<3xbf16> -> tensor<2x3xbf16>
// CHECK: %[[D32:.*]] = train.cast %[[D]] : tensor<2x3xbf16> -> tensor<2x3xf32>
// CHECK: %[[E:.*]] = train.exp %[[D32]] : tensor<2x3xf32>
// CHECK: return %[[E]]
module attributes {train.level = "forward"} {
  train.state @w : tensor<3x3xf32> {role = #train.role<parameter>, trained}
  train.state @v : tensor<3x3xf32> {role = #train.role<parameter>, trained}
  train.state @u : tensor<3xf32> {role = #train.role<parameter>, trained}
  func.func @forward(%x: tensor<2x3xf32> {train.name = "x"}) -> (tensor<2x3xf32> {train.name = "y"}) {
    %w = train.read_state @w : tensor<3x3xf32>
    %v = train.read_state @v : tensor<3x3xf32>
    %u = train.read_state @u : tensor<3xf32>
    %a = train.matmul %x, %v : tensor<2x3xf32>, tensor<3x3xf32> -> tensor<2x3xf32>
    %wt = train.transpose %w [1, 0] : tensor<3x3xf32> -> tensor<3x3xf32>
    %b = train.matmul %a, %wt : tensor<2x3xf32>, tensor<3x3xf32> -> tensor<2x3xf32> loc("last")
    %c = train.matmul %b, %v : tensor<2x3xf32>, tensor<3x3xf32> -> tensor<2x3xf32> loc(fused["first", "last"])
    %d = train.mul %c, %u : tensor<2x3xf32>, tensor<3xf32> -> tensor<2x3xf32>
    %e = train.exp %d : tensor<2x3xf32>
    return %e : tensor<2x3xf32>
  }
}
